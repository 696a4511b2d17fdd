"""The shapes of rows that are understood: which columns each has, and how its turns are read.

A row is read into turns (role, text), role 'user' for the patient and 'assistant' for the doctor, or refused with the
field and the reason in one word.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from medsft.errors import UserError

Turn = tuple[str, str]
Reader = Callable[[Mapping[str, Any]], list[Turn]]
SPEAKER = re.compile(r"\s*(patient|doctor)\s*:\s*(.*)", re.IGNORECASE | re.DOTALL)
INVISIBLE = re.compile(r"[\s\x00\u200b-\u200d\u2060\ufeff]+")
MAX_CHARACTERS = 100_000  # of one dialogue: forty times MedDialog's longest message
MAX_TURNS = 1_000
ROLES = {"patient": "user", "user": "user", "human": "user", "doctor": "assistant", "assistant": "assistant"}
ROLES |= {"gpt": "assistant", "bot": "assistant", "model": "assistant", "0": "user", "1": "assistant"}
CHATDOCTOR = re.compile(r"\s*if you are a doctor\b", re.IGNORECASE)  # the same words in every row, no patient's


class BadRow(Exception):  # noqa: N818 - it is a finding about a row, not a fault of ours
    """A row that cannot be used: the field, and the reason in one word."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field, self.reason = field, reason


def patient_doctor_rows(row: Mapping[str, Any], patient: str, doctor: str, context: str) -> list[Turn]:
    """A patient's message, the doctor's answer and, where there are any, the earlier turns as text."""
    asked, answered, earlier = words(row, patient), words(row, doctor), words(row, context, required=False)
    return [*parse_context(earlier), ("user", asked), ("assistant", answered)]


def meddialog(row: Mapping[str, Any]) -> list[Turn]:
    return patient_doctor_rows(row, "patient_message", "doctor_response", "dialogue_context")


def description_patient_doctor(row: Mapping[str, Any]) -> list[Turn]:
    """ruslanmv/ai-medical-chatbot. Description repeats the question in one line and is left out."""
    return patient_doctor_rows(row, "Patient", "Doctor", "")


def instruction_input_output(row: Mapping[str, Any]) -> list[Turn]:
    """ChatDoctor's fixed instruction is left out; any other is part of what is asked."""
    instruction, asked = words(row, "instruction", required=False), words(row, "input", required=False)
    if INVISIBLE.sub("", asked) and CHATDOCTOR.match(instruction):
        instruction = ""
    question = "\n".join(part for part in (instruction, asked) if INVISIBLE.sub("", part))
    if not question:
        raise BadRow("input", "empty")
    return [("user", question), ("assistant", words(row, "output"))]


def utterances(row: Mapping[str, Any]) -> list[Turn]:
    """A list of 'patient: ...' and 'doctor: ...': MedDialog's processed JSON and its text dumps."""
    lines = items(row, "utterances")
    turns = []
    for line in lines:
        match = SPEAKER.match(line) if isinstance(line, str) else None
        if match is None:
            raise BadRow("utterances", "no_speaker" if isinstance(line, str) else "wrong_type")
        turns.append((ROLES[match[1].lower()], match[2].strip()))
    return turns


def speaker_text_list(row: Mapping[str, Any], column: str) -> list[Turn]:
    """A list of objects with a speaker and a text, under any of the names in use; system messages are left out."""
    turns = []
    for item in items(row, column):
        if not isinstance(item, dict):
            raise BadRow(column, "wrong_type")
        role = next((item[key] for key in ("role", "from", "speaker") if item.get(key) is not None), None)
        text = next((item[key] for key in ("content", "value", "utterance", "text") if key in item), None)
        role = str(role).lower()
        if not isinstance(text, str):
            raise BadRow(column, "null" if text is None else "wrong_type")
        if role in ROLES:
            turns.append((ROLES[role], text))
        elif role != "system":
            raise BadRow(column, "unknown_role")
    return turns


def transcript(row: Mapping[str, Any]) -> list[Turn]:
    """One text of 'Patient: ...' and 'Doctor: ...' lines, as in MTS-Dialog's own files."""
    return parse_context(words(row, "dialogue"))


# In this order: a file that has the columns of several is read as the first.
SHAPES: dict[tuple[str, ...], Reader] = {
    ("messages",): lambda row: speaker_text_list(row, "messages"),
    ("conversations",): lambda row: speaker_text_list(row, "conversations"),
    ("dialogue_turns",): lambda row: speaker_text_list(row, "dialogue_turns"),
    ("utterances",): utterances,
    ("patient_message", "doctor_response"): meddialog,
    ("Patient", "Doctor"): description_patient_doctor,
    ("instruction", "output"): instruction_input_output,
    ("dialogue",): transcript,
}
UNDERSTOOD = (
    "patient_message + doctor_response (+ dialogue_context), Patient + Doctor, instruction + input + output, "
    "messages, conversations, utterances, dialogue_turns, dialogue"
)
PATIENT_LIKE = re.compile(r"patient|question|query|ask|prompt|input|user|symptom|complaint|problem", re.IGNORECASE)
DOCTOR_LIKE = re.compile(r"doctor|answer|response|reply|output|completion|advice|assistant|physician", re.IGNORECASE)


class Columns(NamedTuple):
    """The user's own mapping: which column is the patient's, the doctor's and, if any, the earlier turns'."""

    patient: str
    doctor: str
    context: str = ""

    def read(self, row: Mapping[str, Any]) -> list[Turn]:
        return patient_doctor_rows(row, self.patient, self.doctor, self.context)


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


def reader_for(found: list[str], columns: Columns | None, name: str) -> Reader:
    """How rows with these columns are read: by the mapping where it fits, else by their shape.

    Raises UserError that lists what is understood and the mapping to give.
    """
    missing = [column for column in columns or () if column and column not in found]
    if columns is not None and not missing:
        return columns.read
    if not found:  # no row is an object: each will be set aside
        return meddialog
    for needed, reader in SHAPES.items():
        if set(needed) <= set(found):
            return reader
    if missing:
        raise UserError(f"{name}: no column '{missing[0]}' (columns); found are {', '.join(found)}")
    patient = next((column for column in found if PATIENT_LIKE.search(column)), "...")
    doctor = next((column for column in found if DOCTOR_LIKE.search(column) and column != patient), "...")
    raise UserError(
        f"{name}: found the columns {', '.join(found)}; understood are {UNDERSTOOD}; for others say which is which: "
        f"--columns patient={patient},doctor={doctor}"
    )


def read_turns(row: Any, reader: Reader) -> list[Turn]:
    """The turns of one raw row. Raises BadRow for whatever is wrong with it."""
    if not isinstance(row, dict):
        raise BadRow("", getattr(row, "reason", "not_json") if isinstance(row, str) else "not_an_object")
    if None in row:  # csv.DictReader's key for surplus fields
        raise BadRow("", "too_many_fields")
    turns = reader(row)
    if len(turns) > MAX_TURNS:
        raise BadRow("", "too_many_turns")
    if sum(len(text) for _, text in turns) > MAX_CHARACTERS:
        raise BadRow("", "too_long")
    for _, text in turns:
        if fault := unusable(text):
            raise BadRow("", fault)
    return turns


def words(row: Mapping[str, Any], column: str, required: bool = True) -> str:
    """The text of a column, '' for an optional one that is absent or null. Raises BadRow where it is no text."""
    value = row.get(column)
    if value is None:
        if required:
            raise BadRow(column, "null" if column in row else "missing")
        return ""
    if not isinstance(value, str):
        raise BadRow(column, "wrong_type")
    if fault := unusable(value):
        raise BadRow(column, fault)
    if required and not INVISIBLE.sub("", value):
        raise BadRow(column, "nul_only" if "\x00" in value else "empty")
    return value


def items(row: Mapping[str, Any], column: str) -> list[Any]:
    value = row.get(column)
    if not isinstance(value, list):
        raise BadRow(column, "wrong_type" if value is not None else "null" if column in row else "missing")
    if len(value) > MAX_TURNS:
        raise BadRow(column, "too_many_turns")
    return value


def unusable(text: str) -> str | None:
    """'too_long', 'not_utf8' or 'lone_surrogate' for text that no tokenizer should see; None otherwise."""
    if len(text) > MAX_CHARACTERS:
        return "too_long"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return "not_utf8" if "\udc80" <= text[error.start] <= "\udcff" else "lone_surrogate"
    return None


def parse_context(text: str) -> list[Turn]:
    """Earlier turns from 'Patient: ...' / 'Doctor: ...' lines; text before the first speaker is the patient's."""
    turns: list[Turn] = []
    for line in re.split(r"\r\n?|\n", text):
        match = SPEAKER.match(line)
        if match:
            turns.append((ROLES[match[1].lower()], match[2]))
        elif turns:
            turns[-1] = (turns[-1][0], f"{turns[-1][1]}\n{line}")
        elif line.strip():
            turns.append(("user", line))
    return [(role, text.strip()) for role, text in turns if INVISIBLE.sub("", text)]
