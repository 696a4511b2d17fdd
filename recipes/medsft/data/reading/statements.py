"""What a good answer to a question has to say: statements of a row, as physicians or a rubric wrote them.

Read are a list under `statements`, of texts or of {"text", "must_have", "points"}, and K-QA's own two lists,
`must_have` and `nice_to_have` (Manes et al. 2024, arXiv:2401.14493). `points` are HealthBench's (arXiv:2505.08775): a
criterion with negative points is one that an answer should not meet.
"""

import math
from collections.abc import Callable, Mapping
from typing import TypedDict

from medsft.data.reading.row_fields import INVISIBLE, BadRow, RawRow, checked_text, is_missing, list_of

COLUMN = "statements"
LISTS = {"must_have": True, "nice_to_have": False}  # K-QA's, which writes them with a capital too


class Statement(TypedDict):
    """One statement; `points` of one without its own are 1 where the answer must have it, else 0."""

    text: str
    must_have: bool
    points: float


def read_statements(row: RawRow) -> list[Statement]:
    """The statements of a raw row; [] where it has none. Raises BadRow for a list that holds anything else."""
    found = [] if is_missing(row.get(COLUMN)) else [one(item, COLUMN) for item in list_of(row, COLUMN)]
    for name, must_have in LISTS.items():
        column = name if name in row else name.capitalize()
        if not is_missing(row.get(column)):
            found += [{**one(item, column), "must_have": must_have} for item in list_of(row, column)]
            for statement in found:
                statement["points"] = statement["points"] if statement["must_have"] else 0.0
    return found


def one(item: object, column: str) -> Statement:
    """A text that the answer must have, or an object. Raises BadRow."""
    given: Mapping[str, object] = item if isinstance(item, Mapping) else {"text": item}
    text = checked_text(given.get("text"), column).strip()
    if not INVISIBLE.sub("", text):
        raise BadRow(column, "empty")
    must_have, points = given.get("must_have", True), given.get("points")
    if not isinstance(must_have, bool):
        raise BadRow(column, "must_have_not_true_or_false")
    if is_missing(points):
        points = float(must_have)
    if isinstance(points, bool) or not isinstance(points, int | float) or not math.isfinite(points):
        raise BadRow(column, "points_no_number")
    return {"text": text, "must_have": must_have and points >= 0, "points": float(points)}


def hidden(statements: list[Statement], hide: Callable[[str], str]) -> list[Statement]:
    """The statements with their texts de-identified by `hide`."""
    return [{**statement, "text": hide(statement["text"])} for statement in statements]
