"""Row schemas: which columns a row has, and how they are read into turns.

To add a schema, write a reader (row -> turns) and add it to SCHEMAS; then add an example row to
tests/data/test_row_schemas.py.
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from medsft.data.reading.row_fields import (
    INVISIBLE,
    MAX_CHARACTERS,
    MAX_TURNS,
    ROLES,
    TURN_LINE,
    BadRow,
    NotUtf8,
    RawRow,
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
    """Reads one exchange from two columns, after the earlier turns in `context`, a transcript, if there are any."""

    def read(row: RawRow) -> list[Turn]:
        asked, answered, earlier = text_of(row, patient), text_of(row, doctor), text_of(row, context, required=False)
        exchange: list[Turn] = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
        return [*parse_transcript(earlier), *exchange]

    return read


def turn_list(column: str) -> Reader:
    """Reads a list of objects with a role and a text, under any of the keys in use; system messages are left out."""

    def read(row: RawRow) -> list[Turn]:
        turns: list[Turn] = []
        for item in list_of(row, column):
            if not isinstance(item, dict):
                raise BadRow(column, "wrong_type")
            named = next((item[key] for key in ("role", "from", "speaker") if item.get(key) is not None), None)
            text = next((item[key] for key in ("content", "value", "utterance", "text") if key in item), None)
            role = str(named).lower()
            if not isinstance(text, str):
                raise BadRow(column, "null" if text is None else "wrong_type")
            if role in ROLES:
                turns.append({"role": ROLES[role], "content": text})
            elif role != "system":
                raise BadRow(column, "unknown_role")
        return turns

    return read


def instruction_input_output(row: RawRow) -> list[Turn]:
    """Alpaca's columns. The instruction is part of the question unless it is ChatDoctor's."""
    instruction, asked = text_of(row, "instruction", required=False), text_of(row, "input", required=False)
    if INVISIBLE.sub("", asked) and CHATDOCTOR.match(instruction):
        instruction = ""
    question = "\n".join(part for part in (instruction, asked) if INVISIBLE.sub("", part))
    if not question:
        raise BadRow("input", "empty")
    return [{"role": "user", "content": question}, {"role": "assistant", "content": text_of(row, "output")}]


def utterances(row: RawRow) -> list[Turn]:
    """A list of 'patient: ...' and 'doctor: ...': MedDialog's processed JSON and its text dumps."""
    turns: list[Turn] = []
    for line in list_of(row, "utterances"):
        match = TURN_LINE.match(line) if isinstance(line, str) else None
        if match is None:
            raise BadRow("utterances", "no_speaker" if isinstance(line, str) else "wrong_type")
        turns.append({"role": ROLES[match[1].lower()], "content": match[2].strip()})
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
    RowSchema(("messages",), turn_list("messages")),
    RowSchema(("conversations",), turn_list("conversations")),
    RowSchema(("dialogue_turns",), turn_list("dialogue_turns")),
    RowSchema(("utterances",), utterances),
    MEDDIALOG,
    # ruslanmv/ai-medical-chatbot; its Description repeats the question in one line and is left out
    RowSchema(("Patient", "Doctor"), patient_and_doctor("Patient", "Doctor")),
    RowSchema(("instruction", "output"), instruction_input_output, optional="input"),
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
    pairs = (
        given if isinstance(given, Mapping) else dict(part.split("=", 1) for part in given.split(",") if "=" in part)
    )
    named = {str(key).strip(): str(value).strip() for key, value in pairs.items()}
    if not {"patient", "doctor"} <= set(named) <= {"patient", "doctor", "context"}:
        raise UserError("columns: expected patient=COLUMN,doctor=COLUMN and optionally context=COLUMN")
    return Columns(**named)


def schema_for(found: list[str], columns: Columns | None, name: str) -> RowSchema:
    """The schema of rows with the columns `found`: the user's mapping where it fits, else the first that matches.

    Raises UserError that lists the known schemas and suggests a mapping; `name` is the source it names.
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
    patient = next((column for column in found if PATIENT_LIKE.search(column)), "...")
    doctor = next((column for column in found if DOCTOR_LIKE.search(column) and column != patient), "...")
    raise UserError(
        f"{name}: found the columns {', '.join(found)}; understood are {', '.join(map(str, SCHEMAS))}; for others say "
        f"which is which: --columns patient={patient},doctor={doctor}"
    )


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
