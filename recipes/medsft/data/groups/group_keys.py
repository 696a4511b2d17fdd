"""Keys of a dialogue: what decides whether it is a copy of another one or belongs to the same group."""

import hashlib
from collections.abc import Iterable
from typing import TypedDict

from medsft.data.groups.near_duplicates import SHORT, opening, sketch, word_count
from medsft.data.reading.dialogue import BEGINS
from medsft.records import Turn


class GroupKeys(TypedDict):
    """Dialogues with an equal `digest` are copies; those that share any of the other keys belong to one group.

    `answers` holds a key for each answer of the doctor, the digest of the transcript up to it; those from number
    `telling` on say enough to tell conversations apart. `sketch` is compared by similarity instead of equality.
    """

    digest: str
    answers: list[str]
    telling: int
    question: str
    opening: str
    sketch: bytes


def line(turn: Turn) -> bytes:
    """A turn whatever its case and its spaces."""
    return f"{turn['role']}\x1f{' '.join(turn['content'].lower().split())}\x1e".encode("utf-8", "replace")


def digest(turns: Iterable[Turn]) -> str:
    """SHA-256 of a transcript, whatever its case and its spaces."""
    return hashlib.sha256(b"".join(map(line, turns))).hexdigest()


def group_keys(turns: list[Turn]) -> GroupKeys:
    """The keys of a dialogue. A system turn is no part of them: rows that differ in it alone are copies."""
    turns = [turn for turn in turns if turn["role"] != "system"]
    question = turns[0]["content"]
    text = opening(turns)
    answers, telling = answer_keys(turns)
    return {
        "digest": digest(turns),
        "answers": answers,
        "telling": telling,
        # several answers to one question of four words or more; the opening alone would part the short ones
        "question": digest(turns[:1]) if len(turns) == 2 and word_count(question) >= 4 else "",
        "opening": text,
        "sketch": sketch(text),
    }


def answer_keys(turns: list[Turn]) -> tuple[list[str], int]:
    """16 hexadecimal digits for each exchange, which rows of one conversation have in common for their common turns;
    and the first that says more than 'Hello' - 'How can I help?', which unrelated conversations share."""
    running, telling = hashlib.sha256(), len(turns)
    keys: list[str] = []
    patient = whole = 0
    for turn in turns:
        running.update(line(turn))
        if telling == len(turns) and turn["content"] != BEGINS:
            count = word_count(turn["content"])
            patient, whole = patient + count * (turn["role"] == "user"), whole + count
        if turn["role"] == "assistant":
            if patient >= 3 or patient and whole >= SHORT + 2:
                telling = min(telling, len(keys))
            keys.append(running.hexdigest()[:16])
    return keys, telling
