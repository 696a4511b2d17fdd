"""Ratings of people and of a judge put together: the corrected preference, and agreement of all people."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from medsft.evaluation.review.human_review import Rating, once
from medsft.evaluation.review.krippendorff import Unit, alpha_interval
from medsft.evaluation.review.rater_agreement import TIE
from medsft.evaluation.statistics.prediction_powered import Corrected, Labelled, corrected_mean
from medsft.records import Interval

Raters = Mapping[str, Sequence[Rating]]


def corrected_preference(
    verdicts: Sequence[Mapping[str, Any]], raters: Raters, arm: str, confidence: float
) -> Corrected | None:
    """Wins minus losses of the arm, by the judge's verdicts corrected by the people's; None where none rated a pair.

    Of several people the mean counts. An abstention of the judge is worth 0 here: the correction measures, on the pairs
    that people rated, what that does.
    """
    people: dict[object, list[float]] = {}
    for rated in raters.values():
        for row in once(rated):
            people.setdefault(row["id"], []).append(
                1.0 if row["choice"] == arm else 0.0 if row["choice"] == TIE else -1.0
            )
    rows = []
    for verdict in verdicts:
        known = people.get(verdict["id"])
        judged = {"answer_1", "answer_2"} & {verdict["side"]}
        value = 0.0 if not judged else 1.0 if verdict["choice"] == arm else -1.0
        rows.append(Labelled(verdict["group"], value, sum(known) / len(known) if known else None))
    return corrected_mean(rows, confidence)


def alpha_of_raters(
    raters: Raters, arms: tuple[str, str], resamples: int, confidence: float, seed: int
) -> Interval | None:
    """Ordinal alpha of all people: baseline preferred, tie, arm preferred."""
    units: dict[Hashable, dict[Hashable, list[str]]] = {}
    for rated in raters.values():
        for row in once(rated):
            units.setdefault(row["group"], {}).setdefault(row["id"], []).append(row["choice"])
    by_group: dict[Hashable, list[Unit]] = {group: [*rows.values()] for group, rows in units.items()}
    return alpha_interval(by_group, (arms[0], TIE, arms[1]), resamples, confidence, seed)
