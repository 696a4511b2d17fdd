"""Dialogues: turns that alternate, from the patient's first message to the doctor's last answer."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from medsft.data.reading.row_fields import BadRow
from medsft.data.reading.row_schemas import RowSchema, read_turns
from medsft.records import Turn

if TYPE_CHECKING:
    from medsft.data.reading.sources import Part


@dataclass
class Dialogue:
    """One row. The roles of `turns` are user and assistant in alternation; the first is user, the last assistant."""

    id: str
    source: str
    turns: list[Turn]
    official: str = ""  # 'test' or 'dev' where the source's own split says so
    opened_by: str = ""  # what the doctor said before the patient's first message; only tells conversations apart
    repairs: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Rejected:
    """A row that cannot be used, and why. It holds none of the row's text."""

    file: str
    row: int
    field: str
    reason: str
    source: str = ""


def read_row(row: object, number: int, part: "Part", schema: RowSchema) -> Dialogue | Rejected:
    """One raw row of a part as a Dialogue, or as Rejected with the first thing that is wrong with it."""
    file = part.path.name if part.path else part.name
    try:
        turns, opened_by, repairs = arrange(read_turns(row, schema))
    except BadRow as bad:
        return Rejected(file, number, bad.field, bad.reason, part.source)
    if not turns:
        return Rejected(file, number, "", "no_exchange", part.source)
    official = part.split if part.split != "train" else ""
    return Dialogue(f"{part.label}:{number}", part.source, turns, official, opened_by, repairs)


def arrange(turns: list[Turn]) -> tuple[list[Turn], str, list[str]]:
    """Alternating turns from the patient to the doctor, the doctor's opening ('' if none), and the repairs made.

    Consecutive turns of one role are merged; a leading turn of the doctor and a trailing one of the patient go.
    """
    merged: list[Turn] = []
    for turn in turns:
        if merged and merged[-1]["role"] == turn["role"]:
            merged[-1] = {**turn, "content": f"{merged[-1]['content']}\n{turn['content']}"}
        else:
            merged.append(turn)
    repairs = ["merged_turns"] if len(merged) < len(turns) else []
    opened_by = ""
    if merged and merged[0]["role"] == "assistant":
        opened_by = merged.pop(0)["content"]
        repairs.append("leading_doctor_turn")
    if merged and merged[-1]["role"] == "user":
        merged.pop()
        repairs.append("trailing_patient_turn")
    return merged, opened_by, repairs
