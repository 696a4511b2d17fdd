"""Keys of a dialogue: what decides whether it is a copy of another one or belongs to the same group."""

import hashlib
from collections.abc import Iterable
from typing import TypedDict

from medsft.data.groups.near_duplicates import SHORT, opening, sketch
from medsft.records import Turn


class GroupKeys(TypedDict):
    """Dialogues with an equal `digest` are copies; those that share any of the other keys belong to one group.

    `sketch` is compared by similarity instead of equality. '' is no key.
    """

    digest: str
    conversation: list[str]
    question: str
    opening: str
    sketch: bytes


def digest(turns: Iterable[Turn]) -> str:
    """SHA-256 of a transcript, whatever its case and its spaces."""
    text = "\x1e".join(f"{turn['role']}\x1f{' '.join(turn['content'].lower().split())}" for turn in turns)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def group_keys(turns: list[Turn], opened_by: str) -> GroupKeys:
    """The keys of a dialogue that the doctor may have opened with the words `opened_by`."""
    whole: list[Turn] = [{"role": "assistant", "content": opened_by}, *turns]
    question = turns[0]["content"]
    asks = len(turns) == 2 and question.endswith("?") and len(question.split()) >= 4
    text = opening(turns)
    return {
        "digest": digest(turns),
        # rows that share their earlier turns, and a row with the one whose whole transcript is its earlier turns
        "conversation": [digest(part) for part in (whole, whole[:-2]) if len(part) > 1 and says_something(part)],
        # several answers to one question of four words or more; the opening alone would part the short ones
        "question": digest(turns[:1]) if asks else "",
        "opening": text,
        "sketch": sketch(text),
    }


def says_something(turns: list[Turn]) -> bool:
    """False for 'Hello' - 'How can I help?', which unrelated conversations share."""
    words = [(turn["role"], len(turn["content"].split())) for turn in turns]
    patient = sum(count for role, count in words if role == "user")
    return patient >= 3 or sum(count for _, count in words) >= SHORT + 2
