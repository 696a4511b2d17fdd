"""The original MedDialog text dumps: records of an `id=` line, a Description and a Dialogue of Patient:/Doctor: blocks.

    id=7
    https://www.example.org/7
    Description
    My ear is blocked
    Dialogue
    Patient:
    Hello doctor, ...
    Doctor:
    Hi, ...

A heading counts only where it makes up its whole line, so that a sentence which mentions 'id=' stays part of its turn.
"""

import re
from collections.abc import Iterable, Iterator
from typing import TypedDict

RECORD = re.compile(r"id=\d+\s*\Z")
HEADING = re.compile(r"(description|dialogue)\s*\Z", re.IGNORECASE)
TURN_START = re.compile(r"(patient|doctor)\s*:\s*(.*)", re.IGNORECASE | re.DOTALL)


class DumpRecord(TypedDict):
    """A record: each of the `utterances` is 'patient: ...' or 'doctor: ...'."""

    description: str
    utterances: list[str]


def is_dump(head: list[str], table: bool) -> bool:
    """Whether a file with these first lines is a dump: it begins with a record, or a record with its heading comes
    after some lines of which the first is not the header of a `table`, whose cells may hold any line."""
    if RECORD.match(head[0]):
        return True
    return not table and any(map(RECORD.match, head)) and any(map(HEADING.match, head))


def dump_rows(lines: Iterable[str]) -> Iterator[DumpRecord]:
    """The records of a dump, in order; lines before the first one are left out."""
    record: DumpRecord | None = None
    part = ""
    for line in lines:
        if RECORD.match(line):
            if record is not None:
                yield record
            record, part = {"description": "", "utterances": []}, ""
        elif record is None:
            continue
        elif not record["utterances"] and (heading := HEADING.match(line)):  # later it is a word of an answer
            part = heading[1].lower()
        elif part == "description":
            record["description"] += line
        elif part == "dialogue" and (start := TURN_START.match(line)):
            record["utterances"].append(f"{start[1].lower()}: {start[2]}")
        elif part == "dialogue" and record["utterances"]:
            record["utterances"][-1] += line
    if record is not None:
        yield record
