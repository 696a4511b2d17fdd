"""What an arm lost: its rows paired with the baseline's over the same items, by kind and overall.

Interval of the paired difference: Tango's score interval (1998), made for such tests with few pairs; its lower end
decides non-inferiority (see statistics.equivalence). p of no difference: McNemar's exact test, Holm's correction over
the kinds of an arm. Overall each item counts once.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict

from medsft.errors import UserError
from medsft.evaluation.forgetting.answering import Row
from medsft.evaluation.statistics.equivalence import quality
from medsft.evaluation.statistics.intervals import LEAST_GROUPS
from medsft.evaluation.statistics.paired_tests import common_rows, holm, paired_share
from medsft.evaluation.statistics.proportions import non_inferiority_p, wilson

OVERALL = "overall"
VACUOUS = "vacuous"


class Accuracy(TypedDict):
    """Right answers of one arm to the items of one kind, with Wilson's interval.

    `normalised`: the share of right choices by the likelihood a byte.
    """

    n: int
    correct: int
    accuracy: float
    low: float
    high: float
    normalised: NotRequired[float]


class Lost(TypedDict):
    """An arm minus the baseline on `n` items of one kind, or overall.

    `lost` were right in the baseline only, `gained` in the arm only. `p_margin` is one-sided: of a loss of the margin
    or more. `p_holm` is adjusted over the kinds of the arm; overall it is `p`. `quality`: see statistics.equivalence,
    or vacuous where the baseline is above chance by less than the margin.
    """

    arm: str
    baseline: str
    kind: str
    n: int
    baseline_correct: int
    arm_correct: int
    lost: int
    gained: int
    difference: float
    low: float | None
    high: float | None
    p: float
    p_holm: float
    p_margin: float
    margin: float
    chance: float
    quality: str


def accuracies(rows: Sequence[Row], confidence: float) -> dict[str, Accuracy]:
    """How many items of each kind, and overall, an arm answered rightly."""
    kinds = dict.fromkeys(row["kind"] for row in rows)
    return {kind: _accuracy(_of(rows, kind), confidence) for kind in [OVERALL, *kinds]}


def _accuracy(rows: Sequence[Row], confidence: float) -> Accuracy:
    right = sum(row["correct"] for row in rows)
    low, high = wilson(right, len(rows), confidence)
    found: Accuracy = {"n": len(rows), "correct": right, "accuracy": right / len(rows), "low": low, "high": high}
    other = [row["correct_normalised"] for row in rows if "correct_normalised" in row]
    return {**found, "normalised": sum(other) / len(other)} if len(other) == len(rows) else found


def compare(
    arm: str,
    baseline_rows: Sequence[Row],
    arm_rows: Sequence[Row],
    chances: Mapping[str, float],
    margin: float,
    confidence: float,
) -> list[Lost]:
    """Overall and by kind, over the items that both answered. `chances` are by item id; 0 where an id is not in it.

    Raises UserError where the two answered different items under one id, or none in common.
    """
    pairs = common_rows(baseline_rows, arm_rows)  # type: ignore[type-var]
    for before, after in pairs:
        if before["item"] != after["item"]:
            raise UserError(
                f"{arm}: item '{after['id']}' is not the one that the baseline answered; run check_forgetting.py again "
                "for both"
            )
    if not pairs:
        raise UserError(f"{arm}: no item that the baseline answered; run check_forgetting.py again for both")
    kinds = dict.fromkeys(after["kind"] for _, after in pairs)
    found = [
        _lost(arm, kind, [pair for pair in pairs if kind in (OVERALL, pair[1]["kind"])], chances, margin, confidence)
        for kind in [OVERALL, *kinds]
    ]
    for row, p_holm in zip(found[1:], holm([row["p"] for row in found[1:]]), strict=True):
        row["p_holm"] = p_holm
    return found


def _lost(
    arm: str,
    kind: str,
    pairs: Sequence[tuple[Row, Row]],
    chances: Mapping[str, float],
    margin: float,
    confidence: float,
) -> Lost:
    changes = [after["correct"] - before["correct"] for before, after in pairs]
    n, gained, lost = len(pairs), changes.count(1), changes.count(-1)
    found = paired_share(changes, [*range(n)], confidence)
    low, high = (found.low, found.high) if n >= LEAST_GROUPS else (None, None)
    before = sum(pair[0]["correct"] for pair in pairs)
    chance = sum(chances.get(pair[1]["id"], 0.0) for pair in pairs) / n
    p = mcnemar(gained, lost)
    return {
        "arm": arm,
        "baseline": "baseline",
        "kind": kind,
        "n": n,
        "baseline_correct": before,
        "arm_correct": sum(pair[1]["correct"] for pair in pairs),
        "lost": lost,
        "gained": gained,
        "difference": found.mean,
        "low": low,
        "high": high,
        "p": p,
        "p_holm": p,
        "p_margin": non_inferiority_p(gained, lost, n, margin),
        "margin": margin,
        "chance": chance,
        "quality": VACUOUS if before / n - chance < margin else quality(low, high, margin, 1),
    }


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided exact p of no difference: a binomial test that gains and losses are equally likely (McNemar 1947)."""
    n, fewer = gained + lost, min(gained, lost)
    return min(1.0, 2 * sum(math.comb(n, k) for k in range(fewer + 1)) / 2**n)


def _of(rows: Sequence[Row], kind: str) -> list[Row]:
    return [row for row in rows if kind in (OVERALL, row["kind"])]
