"""What else decides a rater's choice: the position of an answer, its length, and the rater's own inconstancy."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from medsft.evaluation.metrics.behaviour import lengths
from medsft.evaluation.review.rater_agreement import Agreement, agreement
from medsft.evaluation.statistics.intervals import Groups, Resampling, intervals
from medsft.records import Interval

if TYPE_CHECKING:
    from medsft.evaluation.review.human_review import Pair

Rated = Mapping[str, Any]  # a Rating, or a verdict of the judge


class Biases(TypedDict):
    """Shares of the decided pairs (no ties, no abstentions) with intervals over groups; half means no bias.

    `answer_1`: the first of the form was preferred. `longer`: the one with more words was. None without such a pair.
    `retest`: agreement with the same rater's choices on the pairs that were shown again with their sides swapped.
    """

    answer_1: Interval | None
    longer: Interval | None
    retest: Agreement


def biases(rated: Sequence[Rated], pairs: "Sequence[Pair]", resampling: Resampling) -> Biases:
    """The biases of one rater on the pairs of a form."""
    shown = {pair["pair"]: pair for pair in pairs}
    decided = [row for row in rated if row["choice"] in shown[row["pair"]]["key"].values()]
    firsts, longer, groups, groups_of_longer = [], [], [], []
    for row in decided:
        pair = shown[row["pair"]]
        first = pair["key"]["answer_1"] == row["choice"]
        one, other = lengths([pair["answer_1"], pair["answer_2"]])
        firsts.append(float(first))
        groups.append(row["group"])
        if one != other:
            longer.append(float(first == (one > other)))
            groups_of_longer.append(row["group"])
    choices = {row["pair"]: str(row["choice"]) for row in rated}
    again = [row for row in rated if row.get("repeat_of") in choices]
    before = [choices[row["repeat_of"]] for row in again]
    return {
        "answer_1": _share(firsts, groups, resampling),
        "longer": _share(longer, groups_of_longer, resampling),
        "retest": agreement(before, [str(row["choice"]) for row in again], *resampling),
    }


def _share(values: Sequence[float], groups: Groups, resampling: Resampling) -> Interval | None:
    return intervals({"": values}, groups, *resampling)[""] if values else None
