"""How often a reading of statements is wrong, on statements that physicians labelled. A question is a group."""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from medsft.evaluation.review import claim_judge
from medsft.evaluation.review.llm_judge import ABSTAINED
from medsft.evaluation.review.rater_agreement import Agreement, agreement
from medsft.evaluation.statistics.intervals import Resampling, intervals
from medsft.records import Interval
from medsft.text import interval, number

ENTAILED, NEUTRAL, CONTRADICTED = claim_judge.LABELS


class Reading(TypedDict):
    """Of the statements that most physicians give a label: precision and recall of a reading, over questions.

    None where there is nothing to take the share of.
    """

    n: int
    positives: int
    precision: Interval | None
    recall: Interval | None


class Accuracy(TypedDict):
    """What verdicts are worth. `entailed_or_not`: agreement on that alone; contradictions count as not entailed."""

    n: int
    questions: int
    entailed_or_not: Agreement
    entailed: Reading
    contradicted: NotRequired[Reading]


def measure(
    rows: Sequence[Mapping[str, Any]], verdicts: Sequence[str], resampling: Resampling, contradictions: bool
) -> Accuracy:
    """The accuracy of `verdicts` on labelled rows. Without `contradictions` the reading has no such verdict."""
    known = [
        (str(row["question"]), best, verdict)
        for row, verdict in zip(rows, verdicts, strict=True)
        if (best := claim_judge.majority(row.get("physicians", []))) and verdict != ABSTAINED
    ]
    groups = [question for question, *_ in known]
    two = [[label == ENTAILED for label in side] for side in ([k[1] for k in known], [k[2] for k in known])]
    found: Accuracy = {
        "n": len(known),
        "questions": len(set(groups)),
        "entailed_or_not": agreement(two[1], two[0], *resampling, groups=groups),
        "entailed": reading(known, ENTAILED, resampling),
    }
    if contradictions:
        found["contradicted"] = reading(known, CONTRADICTED, resampling)
    return found


def reading(known: Sequence[tuple[str, str, str]], label: str, resampling: Resampling) -> Reading:
    """Precision and recall of one label over (question, label of most physicians, verdict)."""
    right = [float(best == verdict == label) for _, best, verdict in known]
    columns = {
        "precision": [hit if verdict == label else None for hit, (_, _, verdict) in zip(right, known, strict=True)],
        "recall": [hit if best == label else None for hit, (_, best, _) in zip(right, known, strict=True)],
    }
    shares = intervals(columns, [question for question, *_ in known], *resampling) if known else {}
    positives = sum(best == label for _, best, _ in known)
    return {
        "n": len(known),
        "positives": positives,
        "precision": shares.get("precision"),
        "recall": shares.get("recall"),
    }


def sentences(name: str, found: Accuracy) -> list[str]:
    """What a reading is worth, for people: to be shown before any of its verdicts."""
    agreed = found["entailed_or_not"]
    if agreed["share"] is None:
        return [f"{name}: no statement has a label that most physicians agree on"]
    kappa = "none" if agreed["kappa"] is None else "{kappa:.2f} [{low:.2f}, {high:.2f}]".format(**agreed)
    lines = [
        f"{name}: agrees with most physicians on {agreed['share']:.0%} of {found['n']} statements to "
        f"{found['questions']} questions, entailed or not: Cohen's kappa {kappa}"
    ]
    for key in ("entailed", "contradicted"):
        if (part := found.get(key)) is None:
            continue
        shares = ", ".join(f"{what} {_share(part[what])}" for what in ("precision", "recall"))  # type: ignore[index]
        lines.append(f"{name}: '{key}' on {part['positives']} of {part['n']}: {shares}")  # type: ignore[index]
    if "contradicted" not in found:
        lines.append(f"{name}: cannot tell a contradiction from silence, and claims none")
    return lines


def in_short(record: Mapping[str, Any]) -> str:
    """What stands beside completeness scores: the agreement with physicians, and what is read as said and is not.

    `record`: `settings.completeness` of scores.json.
    """
    found: Accuracy | None = record["accuracy"]
    if not found or found["entailed_or_not"]["share"] is None:
        return f"Completeness by the {record['read_by']}, which was not measured on physicians' labels."
    agreed, said = found["entailed_or_not"], found["entailed"]["precision"]
    kappa = "" if agreed["kappa"] is None else ", Cohen's kappa {kappa:.2f} [{low:.2f}, {high:.2f}]".format(**agreed)
    text = (
        f"Completeness by the {record['read_by']}: it agrees with most physicians on {agreed['share']:.0%} of "
        f"{found['n']} statements{kappa}."
    )
    if said is None:
        return text
    wrong = f"{1 - said['mean']:.0%}"
    return f"{text} Of what it reads as said, physicians find {wrong} not said: scores can be too good."


def _share(share: Interval | None) -> str:
    return "undefined" if share is None else f"{number(share['mean'])} {interval(share)}"
