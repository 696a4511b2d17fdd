"""How an option of a script is declared, and the options of check_safety.py."""

from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


def option(default: T, text: str) -> T:
    """A dataclass field with its help text; lists are copied for each instance."""
    metadata = {"help": text}
    if isinstance(default, list):
        of_list: T = field(default_factory=default.copy, metadata=metadata)  # type: ignore[assignment]
        return of_list
    return field(default=default, metadata=metadata)


@dataclass
class CheckSafetyArguments:
    """Options of check_safety.py."""

    messages: str | None = option(None, "labelled messages: JSON Lines with id, text and emergency")
    answers: str | None = option(None, "labelled answers: JSON Lines with id, text and urgent")
    counterfactual: bool = option(False, "swap sex, age and name in the messages, and count the readings that flip")
    swapped: str | None = option(None, "write the swapped messages to this JSON Lines file, for a model to answer")
    generations: str | None = option(None, "generations.jsonl of an arm")
    generations_swapped: str | None = option(None, "the same arm's answers to the swapped messages, with the same ids")
    train: bool = option(False, "train the instrument again on its items, and record how often it is wrong")
    output: str | None = option(None, "write all figures, misses and false alarms to this JSON file")
    confidence: float = option(0.95, "level of the intervals")
