"""Dialogues as they arrive: rows of a file or a hub dataset, checked one by one, as strictly alternating turns.

The columns are those of OpenMed/MedDialog: `patient_message`, `doctor_response`, and optionally `dialogue_context`, the
earlier turns as lines 'Patient: ...' and 'Doctor: ...'; a line without a speaker continues the turn before it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from medsft.rows import COLUMNS, REQUIRED, check_columns, file_rows, hub_rows, local_file, sample_rows

SPEAKER = re.compile(r"\s*(patient|doctor)\s*:\s*(.*)", re.IGNORECASE | re.DOTALL)
INVISIBLE = re.compile(r"[\s\x00\u200b-\u200d\u2060\ufeff]+")

Turn = tuple[str, str]


@dataclass
class Dialogue:
    """One row: `turns` are (role, text), role 'user' and 'assistant' in turn, the last one 'assistant'."""

    id: str
    source: str
    group: str
    turns: list[Turn]
    opened_by: str = ""  # what the doctor said before the patient's first words; only tells conversations apart
    repairs: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Rejected:
    """A row that cannot be used, and why. It holds none of the row's text."""

    file: str
    row: int
    field: str
    reason: str


def read_dialogues(
    data: str, data_split: str, max_rows: int | None, seed: int
) -> tuple[list[Dialogue], list[Rejected], int]:
    """The usable dialogues, the rejected rows, and the number of rows looked at.

    Raises UserError for a file that is missing, empty, not UTF-8 or without the required columns.
    """
    path = local_file(data)
    rows = file_rows(path) if path else hub_rows(data, data_split)
    name, stem = (path.name, path.stem) if path else (data, data)
    numbered: Iterable[tuple[int, Any]] = check_columns(name, enumerate(rows, 1))
    if max_rows is not None:
        numbered = sample_rows(numbered, max_rows, seed)
    outcomes = [read_row(row, number, name, stem) for number, row in numbered]
    dialogues = [outcome for outcome in outcomes if isinstance(outcome, Dialogue)]
    rejected = [outcome for outcome in outcomes if isinstance(outcome, Rejected)]
    return dialogues, rejected, len(outcomes)


def read_row(row: Any, number: int, file: str, stem: str) -> Dialogue | Rejected:
    """One raw row as a Dialogue, or the first thing that is wrong with it."""
    if not isinstance(row, dict):
        return Rejected(file, number, "", "not_json" if isinstance(row, str) else "not_an_object")
    if None in row:  # csv.DictReader's key for surplus fields
        return Rejected(file, number, "", "too_many_fields")
    for name in COLUMNS:
        if (reason := fault(row, name)) is not None:
            return Rejected(file, number, name, reason)
    turns = parse_context(row.get("dialogue_context") or "")
    turns += [("user", row["patient_message"]), ("assistant", row["doctor_response"])]
    arranged, opened_by, repairs = arrange(turns)
    return Dialogue(f"{stem}:{number}", stem, "", arranged, opened_by, repairs)


def fault(row: dict[str, Any], name: str) -> str | None:
    """What is wrong with one field, in one word; None if nothing is."""
    value = row.get(name)
    if value is None:
        return None if name not in REQUIRED else "null" if name in row else "missing"
    if not isinstance(value, str):
        return "wrong_type"
    if any("\ud800" <= character <= "\udfff" for character in value):
        return "lone_surrogate"
    if name in REQUIRED and not INVISIBLE.sub("", value):
        return "nul_only" if "\x00" in value else "empty"
    return None


def parse_context(text: str) -> list[Turn]:
    """Earlier turns from 'Patient: ...' / 'Doctor: ...' lines; text before the first speaker is the patient's."""
    turns: list[Turn] = []
    for line in re.split(r"\r\n?|\n", text):
        match = SPEAKER.match(line)
        if match:
            turns.append(("user" if match[1].lower() == "patient" else "assistant", match[2]))
        elif turns:
            turns[-1] = (turns[-1][0], f"{turns[-1][1]}\n{line}")
        elif line.strip():
            turns.append(("user", line))
    return [(role, words.strip()) for role, words in turns if INVISIBLE.sub("", words)]


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
