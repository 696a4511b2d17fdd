"""Recall and precision of the rules on labelled sentences (the folder labelled beside this module).

No rule was changed after it was measured on 'held_out', whose first lines say how it was written; 'own' was written
with the rules, and shows whether a change loses something.
"""

import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple, TypedDict

from medsft.data.rules.deidentification import SAFE_HARBOR, deidentify
from medsft.data.rules.identifiers.placeholders import replaced

FOLDER = Path(__file__).resolve().parent / "labelled"
MARK = re.compile(r"\{([A-Z_]+):([^}]*)\}")
ROLES = {"patient": "user", "doctor": "assistant"}
# Words of a mark that may stay, because they identify nobody.
BARE = re.compile(r"\b(?:mrs?|ms|miss|dr|the|of|years?|old|y/?o|in)\b|\W", re.IGNORECASE)


class Sentence(NamedTuple):
    """A sentence, its role, and (start, end, kind) of each identifier in it."""

    text: str
    role: str
    marks: list[tuple[int, int, str]]


class Share(TypedDict):
    """How many of `n`, with the bounds of Wilson's 95 % interval of the share."""

    found: int
    n: int
    low: float
    high: float


class Measured(TypedDict):
    """`recall` by kind of identifier, `precision` by kind of placeholder, and the sentences with a `missed` identifier
    or a `wrong` placeholder."""

    recall: dict[str, Share]
    precision: dict[str, Share]
    missed: list[str]
    wrong: list[str]


def labelled_sentences(name: str) -> list[Sentence]:
    """The sentences of labelled/NAME.txt."""
    found = []
    for line in (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        speaker, _, marked = line.partition(": ")
        if speaker not in ROLES:
            continue
        text, marks, position = "", [], 0
        marked = marked.replace("\\n", "\n")
        for mark in MARK.finditer(marked):
            text += marked[position : mark.start()]
            marks.append((len(text), len(text) + len(mark[2]), mark[1]))
            text, position = text + mark[2], mark.end()
        found.append(Sentence(text + marked[position:], ROLES[speaker], marks))
    return found


def measure(name: str, level: str = SAFE_HARBOR) -> Measured:
    """The rules of a level on labelled/NAME.txt.

    An identifier is found if nothing is left of it. A placeholder is right if it stands for a part of any identifier.
    """
    recall: dict[str, Counter[bool]] = defaultdict(Counter)
    precision: dict[str, Counter[bool]] = defaultdict(Counter)
    missed, wrong = [], []
    for text, role, marks in labelled_sentences(name):
        after, _ = deidentify(text, role, skip=["sign_off"], level=level)
        spans = replaced(text, after) if after != text else []
        gone = {position for start, end, _ in spans for position in range(start, end)}
        for start, end, kind in marks:
            left = "".join(text[position] if position not in gone else " " for position in range(start, end))
            found = not BARE.sub("", left)
            recall[kind][found] += 1
            missed += [] if found else [text]
        for start, end, kind in spans:
            right = any(start < last and first < end for first, last, _ in marks)
            precision[kind][right] += 1
            wrong += [] if right else [text]
    return {"recall": shares(recall), "precision": shares(precision), "missed": missed, "wrong": wrong}


def shares(counts: dict[str, Counter[bool]]) -> dict[str, Share]:
    from scipy.stats import binomtest

    rows: dict[str, Share] = {}
    for kind, count in sorted([*counts.items(), ("all", sum(counts.values(), Counter()))]):
        interval = binomtest(count[True], count.total()).proportion_ci(0.95, method="wilson")
        low, high = round(float(interval.low), 3), round(float(interval.high), 3)
        rows[kind] = {"found": count[True], "n": count.total(), "low": low, "high": high}
    return rows
