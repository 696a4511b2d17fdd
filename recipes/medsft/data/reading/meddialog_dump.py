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

A marker counts only where it makes up its whole line, so a sentence that starts with 'Doctor' or mentions 'id=' stays
where it is, and a dialogue of several turns stays whole.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

RECORD = re.compile(r"id=\d+\s*\Z")
MARK = re.compile(r"(description|dialogue)\s*\Z", re.IGNORECASE)
SPEAKER = re.compile(r"(patient|doctor)\s*:\s*(.*)", re.IGNORECASE | re.DOTALL)


def dump_rows(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """One dict a record: `description` and `utterances`, each 'patient: ...' or 'doctor: ...'."""
    record: dict[str, Any] | None = None
    part = ""
    for line in lines:
        if RECORD.match(line):
            if record is not None:
                yield record
            record, part = {"description": "", "utterances": []}, ""
        elif record is None:
            continue
        elif mark := MARK.match(line):
            part = mark[1].lower()
        elif part == "description":
            record["description"] += line
        elif part == "dialogue" and (speaker := SPEAKER.match(line)):
            record["utterances"].append(f"{speaker[1].lower()}: {speaker[2]}")
        elif part == "dialogue" and record["utterances"]:
            record["utterances"][-1] += line
    if record is not None:
        yield record
