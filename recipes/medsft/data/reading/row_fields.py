"""Field values of a raw row: checked texts and lists, and transcripts split into turns."""

import ast
import json
import math
import re
from collections.abc import Mapping
from typing import cast

from medsft.records import Turn

RawRow = Mapping[str, object]
# who speaks in transcripts; the guests are MTS-Dialog's
SPEAKERS = {"patient": "user", "guest_family": "user", "doctor": "assistant", "guest_clinician": "assistant"}
TURN_LINE = re.compile(rf"\s*({'|'.join(SPEAKERS)})(?:_\d+)?\s*:\s*(.*)", re.IGNORECASE | re.DOTALL)
INVISIBLE = re.compile(r"[\s\x00\u200b-\u200d\u2060\ufeff]+")
MAX_CHARACTERS = 100_000  # of one dialogue: forty times MedDialog's longest message
MAX_TURNS = 1_000
ROLES = {"patient": "user", "user": "user", "human": "user", "doctor": "assistant", "assistant": "assistant"}
ROLES |= {"gpt": "assistant", "bot": "assistant", "model": "assistant", "0": "user", "1": "assistant"}
ROLES |= {"client": "user", "physician": "assistant", "clinician": "assistant", "therapist": "assistant"}
ROLES |= {"system": "system", "developer": "system"}
ROLES |= dict.fromkeys(("tool", "function", "observation", "function_call", "tool_call", "tool_calls"), "tool")
ROLE_KEYS, TEXT_KEYS = ("role", "from", "speaker"), ("content", "value", "utterance", "text")
TEXT_PARTS = {"text", "input_text", "output_text", None}  # types of the content parts that hold text


class NotUtf8(str):
    """A line or a row with bytes that are not UTF-8. It is rejected like any other bad row."""


class BadRow(Exception):  # noqa: N818 - it is a finding about a row, not a fault of ours
    """A row that cannot be used: the field, and the reason in one word."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field, self.reason = field, reason


def is_missing(value: object) -> bool:
    """Null, or the NaN that pandas writes for it."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def text_of(row: RawRow, column: str, required: bool = True) -> str:
    """The text of a column; '' for an optional one that is absent or null. Raises BadRow for any other value."""
    value = row.get(column)
    if is_missing(value):
        if required:
            raise BadRow(column, "null" if column in row else "missing")
        return ""
    text = checked_text(value, column)
    if required and not INVISIBLE.sub("", text):
        raise BadRow(column, "nul_only" if "\x00" in text else "empty")
    return text


def checked_text(value: object, column: str) -> str:
    """A text, or the joined text parts of a message. Raises BadRow for any other value, and for unusable text."""
    if isinstance(value, bytes):  # Parquet's columns of bytes that were not declared to be text
        value = value.decode("utf-8", "surrogateescape")
    if isinstance(value, list) and value:
        value = joined_parts(value, column)
    if not isinstance(value, str):
        raise BadRow(column, "null" if is_missing(value) else "wrong_type")
    if reason := unusable(value):
        raise BadRow(column, reason)
    return value


def joined_parts(parts: list[object], column: str) -> str:
    """OpenAI's list of content parts as one text. Raises BadRow where a part is no text, such as an image."""
    texts = []
    for part in parts:
        if isinstance(part, dict):
            if part.get("type") not in TEXT_PARTS:
                raise BadRow(column, "not_text")
            part = part.get("text")
        if not isinstance(part, str):
            raise BadRow(column, "wrong_type")
        texts.append(part)
    return "\n".join(texts)


def list_of(row: RawRow, column: str) -> list[object]:
    """The list in a column, also where it was written as text or as a struct of lists.

    Raises BadRow for any other value, and for more than MAX_TURNS elements.
    """
    value = row.get(column)
    if is_missing(value):
        raise BadRow(column, "null" if column in row else "missing")
    if isinstance(value, str):  # a CSV file holds a list as JSON, or as Python writes it
        value = list_in_text(value)
    if isinstance(value, dict):  # {"speaker": [0, 1], "utterance": ["...", "..."]}, as datasets stores lists of objects
        value = transposed(value)
    if not isinstance(value, list):
        raise BadRow(column, "wrong_type")
    if len(value) > MAX_TURNS:
        raise BadRow(column, "too_many_turns")
    return value


def list_in_text(text: str) -> object:
    """The list that a text spells, or the text itself."""
    if not text.lstrip().startswith("[") or len(text) > MAX_CHARACTERS:
        return text
    for read in (json.loads, ast.literal_eval):
        try:
            return cast(object, read(text.strip()))
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return text


def transposed(columns: Mapping[str, object]) -> object:
    """A list of objects from an object of equally long lists; None where it is no such object."""
    lists = {name: value for name, value in columns.items() if isinstance(value, list)}
    if not lists or len({len(value) for value in lists.values()}) > 1:
        return None
    return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]


def unusable(text: str) -> str | None:
    """'too_long', 'not_utf8' or 'lone_surrogate' for text that no tokenizer should see; None otherwise."""
    if len(text) > MAX_CHARACTERS:
        return "too_long"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return "not_utf8" if "\udc80" <= text[error.start] <= "\udcff" else "lone_surrogate"
    return None


def parse_transcript(text: str) -> list[Turn]:
    """Turns from 'Patient: ...' and 'Doctor: ...' lines. Text before the first such line is the patient's."""
    turns: list[Turn] = []
    for line in re.split(r"\r\n?|\n", text):
        match = TURN_LINE.match(line)
        if match:
            turns.append({"role": SPEAKERS[match[1].lower()], "content": match[2]})
        elif turns:
            turns[-1]["content"] += f"\n{line}"
        elif line.strip():
            turns.append({"role": "user", "content": line})
    return [{**turn, "content": turn["content"].strip()} for turn in turns if INVISIBLE.sub("", turn["content"])]
