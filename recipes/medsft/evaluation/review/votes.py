"""Blinded votes between arms: one line of a local file each, and what they add up to, with its uncertainty."""

import json
import math
import os
from itertools import combinations
from pathlib import Path
from typing import Any

from medsft.evaluation.statistics.proportions import wilson
from medsft.files import read_jsonl

TIE = "no difference"
CONFIDENCE = 0.95


def store(path: Path, vote: dict[str, Any]) -> None:
    """Append one vote and make sure that it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as handle:
        handle.write(json.dumps(vote, ensure_ascii=False) + "\n")
        handle.flush()
        os.fsync(handle.fileno())


def table(path: Path) -> list[dict[str, Any]]:
    """For each pair of arms that were shown together: wins, ties, share of `arm` with its interval, p of a sign test.

    The share and the p-value leave ties out, as the sign test does; of more than two arms the one chosen wins against
    each other one that was shown.
    """
    votes = read_jsonl(path) if path.is_file() else []
    rows = []
    for arm, other in combinations(sorted({name for vote in votes for name in vote["arms"]}), 2):
        both = [vote["choice"] for vote in votes if {arm, other} <= set(vote["arms"])]
        wins, losses, ties = both.count(arm), both.count(other), both.count(TIE)
        if wins + losses + ties == 0:
            continue
        low, high = wilson(wins, wins + losses, CONFIDENCE) if wins + losses else (0.0, 1.0)
        share = wins / (wins + losses) if wins + losses else None
        row = {"arm": arm, "other": other, "wins": wins, "losses": losses, "ties": ties, "share": share}
        rows.append(row | {"low": low, "high": high, "p": sign_test(wins, losses)})
    return rows


def sign_test(wins: int, losses: int) -> float:
    """Exact two-sided p-value of so uneven a split if both were as likely: twice the smaller tail, at most 1."""
    n, fewer = wins + losses, min(wins, losses)
    return min(1.0, 2 * sum(math.comb(n, k) for k in range(fewer + 1)) / 2**n)
