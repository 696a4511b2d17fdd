"""Field values of a raw row: checked texts and lists, and transcripts split into turns."""

import re
from collections.abc import Mapping

from medsft.records import Turn

RawRow = Mapping[str, object]
TURN_LINE = re.compile(r"\s*(patient|doctor)\s*:\s*(.*)", re.IGNORECASE | re.DOTALL)
INVISIBLE = re.compile(r"[\s\x00\u200b-\u200d\u2060\ufeff]+")
MAX_CHARACTERS = 100_000  # of one dialogue: forty times MedDialog's longest message
MAX_TURNS = 1_000
ROLES = {"patient": "user", "user": "user", "human": "user", "doctor": "assistant", "assistant": "assistant"}
ROLES |= {"gpt": "assistant", "bot": "assistant", "model": "assistant", "0": "user", "1": "assistant"}


class NotUtf8(str):
    """A line or a row with bytes that are not UTF-8. It is rejected like any other bad row."""


class BadRow(Exception):  # noqa: N818 - it is a finding about a row, not a fault of ours
    """A row that cannot be used: the field, and the reason in one word."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field, self.reason = field, reason


def text_of(row: RawRow, column: str, required: bool = True) -> str:
    """The text of a column; '' for an optional one that is absent or null. Raises BadRow for any other value."""
    value = row.get(column)
    if value is None:
        if required:
            raise BadRow(column, "null" if column in row else "missing")
        return ""
    if not isinstance(value, str):
        raise BadRow(column, "wrong_type")
    if reason := unusable(value):
        raise BadRow(column, reason)
    if required and not INVISIBLE.sub("", value):
        raise BadRow(column, "nul_only" if "\x00" in value else "empty")
    return value


def list_of(row: RawRow, column: str) -> list[object]:
    """The list in a column. Raises BadRow for any other value, and for more than MAX_TURNS elements."""
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


def parse_transcript(text: str) -> list[Turn]:
    """Turns from 'Patient: ...' and 'Doctor: ...' lines. Text before the first such line is the patient's."""
    turns: list[Turn] = []
    for line in re.split(r"\r\n?|\n", text):
        match = TURN_LINE.match(line)
        if match:
            turns.append({"role": ROLES[match[1].lower()], "content": match[2]})
        elif turns:
            turns[-1]["content"] += f"\n{line}"
        elif line.strip():
            turns.append({"role": "user", "content": line})
    return [{**turn, "content": turn["content"].strip()} for turn in turns if INVISIBLE.sub("", turn["content"])]
