"""Row schemas: which columns a row has, and how they are read into turns.

To add a schema, write a reader (row -> turns) and add it to SCHEMAS; then add an example row to
tests/data/test_row_schemas.py.
"""

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from medsft.data.reading.row_fields import (
    INVISIBLE,
    MAX_CHARACTERS,
    MAX_TURNS,
    ROLE_KEYS,
    ROLES,
    SPEAKERS,
    TEXT_KEYS,
    TURN_LINE,
    BadRow,
    NotUtf8,
    RawRow,
    checked_text,
    is_missing,
    list_of,
    parse_transcript,
    text_of,
    unusable,
)
from medsft.errors import UserError
from medsft.records import Turn

Reader = Callable[[RawRow], list[Turn]]
# ChatDoctor's instruction is the same in every row and was written by no patient.
CHATDOCTOR = re.compile(r"\s*if you are a doctor\b", re.IGNORECASE)


def patient_and_doctor(patient: str, doctor: str, context: str = "") -> Reader:
    """Reads one exchange from two columns, after the earlier turns in `context`, a transcript, if there are any.

    Either column may hold a list of messages instead of a text, as TRL's prompt and completion do.
    """

    def read(row: RawRow) -> list[Turn]:
        return [
            *parse_transcript(text_of(row, context, required=False)),
            *text_or_messages(row, patient, "user"),
            *text_or_messages(row, doctor, "assistant"),
        ]

    return read


def text_or_messages(row: RawRow, column: str, role: str) -> list[Turn]:
    """The turns of a column that holds a text of this role, or a list of messages."""
    if is_messages(row.get(column)):
        return turn_list(column)(row)
    return [{"role": role, "content": text_of(row, column)}]


def turn_list(column: str) -> Reader:
    """Reads a list of objects with a role and a text, under any of the keys in use.

    System messages and tool calls keep their role; `arrange` decides what becomes of them.
    """

    def read(row: RawRow) -> list[Turn]:
        return [turn_of(item, column) for item in list_of(row, column)]

    return read


def with_system_column(read: Reader) -> Reader:
    """Reads also the column `system` that ShareGPT's and Alpaca's rows may have, unless the turns bring their own."""

    def read_both(row: RawRow) -> list[Turn]:
        turns, text = read(row), row.get("system")
        if not isinstance(text, str) or any(turn["role"] == "system" for turn in turns):
            return turns
        return [{"role": "system", "content": checked_text(text, "system")}, *turns]

    return read_both


def turn_of(item: object, column: str) -> Turn:
    """One element of a list of turns. Raises BadRow for an unknown role, and for a turn without text."""
    if not isinstance(item, dict):
        raise BadRow(column, "wrong_type")
    named = next((item[key] for key in ROLE_KEYS if not is_missing(item.get(key))), None)
    role = ROLES.get(str(named).lower().strip().removesuffix(".0"))  # pandas makes 0.0 of a speaker 0 beside a null
    if role is None:
        raise BadRow(column, "unknown_role")
    text = next((item[key] for key in TEXT_KEYS if not is_missing(item.get(key))), None)
    calls = any(not is_missing(item.get(key)) for key in ("tool_calls", "function_call"))
    if text is None and calls or role == "tool":
        return {"role": "tool", "content": ""}
    return {"role": role, "content": checked_text(text, column)}


def instruction_input_output(row: RawRow) -> list[Turn]:
    """Alpaca's columns. The instruction is part of the question unless it is ChatDoctor's. `history`, if there is one,
    is a list of earlier pairs of question and answer."""
    instruction, asked = text_of(row, "instruction", required=False), text_of(row, "input", required=False)
    if INVISIBLE.sub("", asked) and CHATDOCTOR.match(instruction):
        instruction = ""
    question = "\n".join(part for part in (instruction, asked) if INVISIBLE.sub("", part))
    if not question:
        raise BadRow("input", "empty")
    earlier: list[Turn] = []
    for pair in [] if is_missing(row.get("history")) else list_of(row, "history"):
        if not isinstance(pair, list) or len(pair) != 2:
            raise BadRow("history", "wrong_type")
        for role, text in zip(("user", "assistant"), pair, strict=True):
            earlier.append({"role": role, "content": checked_text(text, "history")})
    return [*earlier, {"role": "user", "content": question}, {"role": "assistant", "content": text_of(row, "output")}]


def utterances(row: RawRow) -> list[Turn]:
    """A list of 'patient: ...' and 'doctor: ...': MedDialog's processed JSON and its text dumps."""
    turns: list[Turn] = []
    for line in list_of(row, "utterances"):
        if isinstance(line, dict):
            turns.append(turn_of(line, "utterances"))
            continue
        match = TURN_LINE.match(line) if isinstance(line, str) else None
        if match is None:
            raise BadRow("utterances", "no_speaker" if isinstance(line, str) else "wrong_type")
        turns.append({"role": SPEAKERS[match[1].lower()], "content": match[2].strip()})
    return turns


def transcript(row: RawRow) -> list[Turn]:
    """One text of 'Patient: ...' and 'Doctor: ...' lines, as in MTS-Dialog's own files."""
    return parse_transcript(text_of(row, "dialogue"))


class RowSchema(NamedTuple):
    """The columns that a row must have, how it is read, and a column that is read where it is present."""

    columns: tuple[str, ...]
    read: Reader
    optional: str = ""

    def __str__(self) -> str:
        return " + ".join(self.columns) + (f" (+ {self.optional})" if self.optional else "")


MEDDIALOG = RowSchema(
    ("patient_message", "doctor_response"),
    patient_and_doctor("patient_message", "doctor_response", "dialogue_context"),
    optional="dialogue_context",
)
# Rows that have the columns of several schemas are read by the first of them.
SCHEMAS = (
    RowSchema(("messages",), with_system_column(turn_list("messages"))),
    RowSchema(("conversations",), with_system_column(turn_list("conversations"))),
    RowSchema(("dialogue_turns",), turn_list("dialogue_turns")),
    RowSchema(("utterances",), utterances),
    RowSchema(("prompt", "completion"), patient_and_doctor("prompt", "completion")),
    MEDDIALOG,
    # ruslanmv/ai-medical-chatbot; its Description repeats the question in one line and is left out
    RowSchema(("Patient", "Doctor"), patient_and_doctor("Patient", "Doctor")),
    RowSchema(("instruction", "output"), with_system_column(instruction_input_output), optional="input"),
    RowSchema(("dialogue",), transcript),
)
PATIENT_LIKE = re.compile(r"patient|question|query|ask|prompt|input|user|symptom|complaint|problem", re.IGNORECASE)
DOCTOR_LIKE = re.compile(r"doctor|answer|response|reply|output|completion|advice|assistant|physician", re.IGNORECASE)


class Columns(NamedTuple):
    """The user's own mapping: the column of the patient, of the doctor and, if any, of the earlier turns."""

    patient: str
    doctor: str
    context: str = ""


def parse_columns(given: str | Mapping[str, str] | None) -> Columns | None:
    """'patient=question,doctor=answer', or the same as a mapping in YAML. Raises UserError for anything else."""
    if given is None:
        return None
    if isinstance(given, Mapping):
        pairs = dict(given)
    else:  # a column's own name may hold a comma
        parts = re.split(r",\s*(?=(?:patient|doctor|context)\s*=)", given)
        pairs = dict(part.split("=", 1) for part in parts if "=" in part)
    named = {str(key).strip(): str(value).strip() for key, value in pairs.items()}
    if not {"patient", "doctor"} <= set(named) <= {"patient", "doctor", "context"} or not all(named.values()):
        raise UserError("columns: expected patient=COLUMN,doctor=COLUMN and optionally context=COLUMN")
    if len(set(named.values())) < len(named):
        raise UserError("columns: patient, doctor and context must be different columns")
    return Columns(**named)


def schema_for(found: list[str], columns: Columns | None, name: str, rows: Sequence[object] = ()) -> RowSchema:
    """The schema of rows with the columns `found`: the user's mapping where it fits, else the first that matches.

    Raises UserError that lists the known schemas and suggests a mapping to two columns of text, judged by the first
    `rows`; `name` is the source it names.
    """
    missing = [column for column in columns or () if column and column not in found]
    if columns is not None and not missing:
        return RowSchema(columns, patient_and_doctor(*columns))
    if not found:  # none of the first rows is an object, and each of them will be rejected
        return MEDDIALOG
    for schema in SCHEMAS:
        if set(schema.columns) <= set(found):
            return schema
    if missing:
        raise UserError(f"{name}: no column '{missing[0]}' (columns); found are {', '.join(found)}")
    raise UserError(f"{name}: found the columns {', '.join(found)}; {remedy_for(found, rows)}")


def remedy_for(found: list[str], rows: Sequence[object]) -> str:
    """What to do about rows of an unknown schema: a mapping to two columns that hold text, where there are two."""
    if {*found} & {*ROLE_KEYS} and {*found} & {*TEXT_KEYS}:
        return 'each row is one turn; put the turns of a conversation into one row: {"messages": [...]}'

    def length(column: str) -> int:
        values = [row.get(column) for row in rows if isinstance(row, dict)]
        return sum(len(str(value)) for value in values if isinstance(value, str) or is_messages(value))

    texts = [column for column in found if length(column) or not rows]
    if len(texts) < 2:
        return (
            f"understood are {', '.join(map(str, SCHEMAS))}; give the patient's and the doctor's words as two columns"
        )
    longest = sorted(sorted(texts, key=length, reverse=True)[:2], key=found.index)  # the question comes first
    doctor = next((column for column in texts if DOCTOR_LIKE.search(column)), "")
    patient = next((column for column in texts if PATIENT_LIKE.search(column) and column != doctor), "")
    patient = patient or next(column for column in [*longest, *texts] if column != doctor)
    doctor = doctor or next(column for column in [*longest, *texts] if column != patient)
    mapping = shlex.quote(f"patient={patient},doctor={doctor}")
    return f"understood are {', '.join(map(str, SCHEMAS))}; for others say which is which: --columns {mapping}"


def is_messages(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and bool({*ROLE_KEYS} & {*value[0]})


def normal_row(row: object) -> object:
    """A raw row with the blanks around its column names stripped; a bare list of turns as a row of `messages`."""
    if is_messages(row):
        return {"messages": row}
    if isinstance(row, dict) and any(isinstance(key, str) and key != key.strip() for key in row):
        return {key.strip() if isinstance(key, str) else key: value for key, value in row.items()}
    return row


def read_turns(row: object, schema: RowSchema) -> list[Turn]:
    """The turns of one raw row. Raises BadRow with the first thing that is wrong with it."""
    if not isinstance(row, dict):
        reason = "not_utf8" if isinstance(row, NotUtf8) else "not_json" if isinstance(row, str) else "not_an_object"
        raise BadRow("", reason)
    if None in row:  # csv.DictReader's key for surplus fields
        raise BadRow("", "too_many_fields")
    turns = schema.read(row)
    if len(turns) > MAX_TURNS:
        raise BadRow("", "too_many_turns")
    if sum(len(turn["content"]) for turn in turns) > MAX_CHARACTERS:
        raise BadRow("", "too_long")
    for turn in turns:
        if fault := unusable(turn["content"]):
            raise BadRow("", fault)
    return turns
