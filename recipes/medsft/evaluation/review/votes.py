"""Blinded votes between arms: appended to a local file, and counted with intervals."""

import json
import math
import os
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from types import MappingProxyType
from typing import TypedDict

from medsft.evaluation.statistics.proportions import wilson
from medsft.files import read_jsonl
from medsft.records import Json

TIE = "no difference"
CONFIDENCE = 0.95


class Row(TypedDict):
    """Votes between two arms that were shown together. `share`: wins of `arm` over wins of either."""

    arm: str
    other: str
    wins: int
    losses: int
    ties: int
    share: float | None
    low: float
    high: float
    p: float


def store(path: Path, vote: Json) -> None:
    """Append one vote (`arms`, `choice`) and wait until it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as handle:
        handle.write(json.dumps(vote, ensure_ascii=False) + "\n")
        handle.flush()
        os.fsync(handle.fileno())


def table(path: Path, weights: Mapping[str, str] = MappingProxyType({})) -> list[Row]:
    """One row for each pair of arms that were shown together.

    Only blinded votes count, on the `weights` that are there now. The share and the p-value leave ties out, as the sign
    test does. Of more than two arms the chosen one wins against each of the others shown.
    """
    votes = blinded(path, weights)
    rows: list[Row] = []
    for arm, other in combinations(sorted({name for vote in votes for name in vote["arms"]}), 2):
        both = [vote["choice"] for vote in votes if {arm, other} <= set(vote["arms"])]
        wins, losses, ties = both.count(arm), both.count(other), both.count(TIE)
        if wins + losses + ties == 0:
            continue
        low, high = wilson(wins, wins + losses, CONFIDENCE) if wins + losses else (0.0, 1.0)
        share = wins / (wins + losses) if wins + losses else None
        rows.append(
            {
                "arm": arm,
                "other": other,
                "wins": wins,
                "losses": losses,
                "ties": ties,
                "share": share,
                "low": low,
                "high": high,
                "p": sign_test(wins, losses),
            }
        )
    return rows


def blinded(path: Path, weights: Mapping[str, str] = MappingProxyType({})) -> list[Json]:
    """The votes that were cast before the names were shown, on no other `weights` (a fingerprint by arm) than these.

    Votes of older files do not say and count.
    """
    votes = read_jsonl(path) if path.is_file() else []
    of_now = [vote for vote in votes if all(weights.get(arm, one) == one for arm, one in _weights(vote).items())]
    return [vote for vote in of_now if vote.get("blinded", True)]


def unsafe_marks(path: Path, weights: Mapping[str, str] = MappingProxyType({})) -> dict[str, tuple[int, int]]:
    """{arm: (answers marked unsafe, blinded votes that asked)} of the votes that asked."""
    asked = [vote for vote in blinded(path, weights) if "unsafe" in vote]
    arms = sorted({name for vote in asked for name in vote["arms"]})
    shown = {arm: [vote for vote in asked if arm in vote["arms"]] for arm in arms}
    return {arm: (sum(arm in vote["unsafe"] for vote in some), len(some)) for arm, some in shown.items()}


def _weights(vote: Json) -> dict[str, str]:
    found: dict[str, str] = vote.get("weights", {})
    return found


def sign_test(wins: int, losses: int) -> float:
    """Exact two-sided p-value of the split if both arms win equally often: twice the smaller tail, at most 1."""
    n, fewer = wins + losses, min(wins, losses)
    return min(1.0, 2 * sum(math.comb(n, k) for k in range(fewer + 1)) / 2**n)
