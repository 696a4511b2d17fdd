"""Dialogues as strictly alternating turns, from the patient's first words to a doctor's last."""

from dataclasses import dataclass, field
from typing import Any

from medsft.data.reading.row_schemas import BadRow, Reader, Turn, read_turns


@dataclass
class Dialogue:
    """One row: `turns` are (role, text), role 'user' and 'assistant' in turn, the last one 'assistant'."""

    id: str
    source: str
    turns: list[Turn]
    official: str = ""  # 'test' or 'dev' where the source's own split says so
    opened_by: str = ""  # what the doctor said before the patient's first words; only tells conversations apart
    repairs: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Rejected:
    """A row that cannot be used, and why. It holds none of the row's text."""

    file: str
    row: int
    field: str
    reason: str
    source: str = ""


def read_row(row: Any, number: int, part: Any, reader: Reader) -> Dialogue | Rejected:
    """One raw row of a sources.Part as a Dialogue, or the first thing that is wrong with it."""
    file = part.path.name if part.path else part.name
    try:
        turns, opened_by, repairs = arrange(read_turns(row, reader))
    except BadRow as bad:
        return Rejected(file, number, bad.field, bad.reason, part.source)
    if not turns:
        return Rejected(file, number, "", "no_exchange", part.source)
    official = part.split if part.split != "train" else ""
    return Dialogue(f"{part.label}:{number}", part.source, turns, official, opened_by, repairs)


def arrange(turns: list[Turn]) -> tuple[list[Turn], str, list[str]]:
    """Turns that alternate, start with the patient and end with the doctor; the doctor's opening; what was repaired."""
    merged: list[Turn] = []
    for role, text in turns:
        if merged and merged[-1][0] == role:
            merged[-1] = (role, f"{merged[-1][1]}\n{text}")
        else:
            merged.append((role, text))
    repairs = ["merged_turns"] if len(merged) < len(turns) else []
    opened_by = ""
    if merged and merged[0][0] == "assistant":
        opened_by = merged.pop(0)[1]
        repairs.append("leading_doctor_turn")
    if merged and merged[-1][0] == "user":
        merged.pop()
        repairs.append("trailing_patient_turn")
    return merged, opened_by, repairs
