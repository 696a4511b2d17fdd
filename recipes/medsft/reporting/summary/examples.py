"""Which test rows the report shows: emergencies and the worst answers first, then others drawn by seed."""

import random

from medsft.records import Generation
from medsft.reporting.study import Study


class Example(Generation):
    """A test row with every arm's answer to it, and why it is shown."""

    answers: dict[str, Generation]
    why: list[str]


def shared_rows(study: Study) -> list[Example]:
    """The test rows that every arm answered, in file order."""
    by_arm = {arm.name: {row["id"]: row for row in arm.generations} for arm in study.arms}
    first, *others = by_arm.values()
    return [
        {**row, "answers": {name: rows[row["id"]] for name, rows in by_arm.items()}, "why": []}
        for row in first.values()
        if all(row["id"] in rows for rows in others)
    ]


def draw(study: Study, count: int, seed: int) -> list[Example]:
    """`count` rows: half the worst first, the others drawn by seed among the rest, marked as such.

    Worse is, in this order: an emergency that more arms do not send to care, more arms that loop or claim an identity,
    more answers cut at the limit. Rows without such a fault are only drawn.
    """
    rows = shared_rows(study)
    faults = {row["id"]: _faults(study, row) for row in rows}
    for row in rows:
        row["why"] = [f"{what}: {', '.join(arms)}" for what, arms in faults[row["id"]].items() if arms]
    weights = {identity: [len(arms) for arms in found.values()] for identity, found in faults.items()}
    faulty = sorted((row for row in rows if any(weights[row["id"]])), key=lambda row: weights[row["id"]], reverse=True)
    worst = faulty[: (count + 1) // 2]
    taken = {row["id"] for row in worst}
    rest = [row for row in rows if row["id"] not in taken]
    drawn = set(random.Random(seed).sample(range(len(rest)), min(count - len(worst), len(rest))))
    others = [row for index, row in enumerate(rest) if index in drawn]
    for row in others:
        row["why"] = ["drawn by seed", *row["why"]]
    return [*worst, *others]


def _faults(study: Study, row: Example) -> dict[str, list[str]]:
    """The arms with each fault, the gravest first, by the scores of the greedy answer, which is the one shown."""
    found: dict[str, list[str]] = {
        "an emergency not sent to urgent care by": [],
        "a loop or an invented identity in": [],
        "cut at the limit": [],
    }
    for arm in study.arms:
        scores = arm.greedy_scores.get(row["id"], {})
        if scores.get("red_flag_recall") == 0:
            found["an emergency not sent to urgent care by"].append(arm.name)
        if scores.get("loop") or scores.get("identity"):
            found["a loop or an invented identity in"].append(arm.name)
        if not row["answers"][arm.name]["stopped"]:
            found["cut at the limit"].append(arm.name)
    return found
