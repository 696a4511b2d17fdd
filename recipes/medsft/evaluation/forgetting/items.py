"""Items of the forgetting gate: JSON Lines, checked row by row. Their format is in items/README.md."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict, cast

from medsft.errors import UserError
from medsft.evaluation.forgetting import constraints
from medsft.files import read_labelled
from medsft.records import Json

FOLDER = Path(__file__).parent / "items"
KINDS = ("instructions", "general", "medical", "refusal", "over_refusal", "reasoning")
BY_LIKELIHOOD = ("general", "medical")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
OWN = "own_"  # before the kind of an item from a file of the user's
ORDER = 22  # seed of the fixed order in which items are drawn


class Item(TypedDict):
    """One item. Which of the optional fields it has follows from `kind`, without OWN before it."""

    id: str
    kind: str
    prompt: str
    checks: NotRequired[Json]
    choices: NotRequired[list[str]]
    answer: NotRequired[str]
    options: NotRequired[list[str]]
    mentions: NotRequired[list[str]]


def chosen(own: str | None, per_kind: int | None) -> list[Item]:
    """The bundled items and those of the file `own`: the first `per_kind` of each kind in a fixed shuffled order.

    All where `per_kind` is None. Raises UserError for a wrong row, or for a number below 1.
    """
    if per_kind is not None and per_kind < 1:
        raise UserError(f"items_per_kind {per_kind}: give a whole number from 1, or leave it out for all items")
    by_kind: dict[str, list[Item]] = {kind: read(FOLDER / f"{kind}.jsonl") for kind in KINDS}
    for item in read(Path(own)) if own else []:
        by_kind.setdefault(OWN + item["kind"], []).append(
            {**item, "id": OWN + item["id"], "kind": OWN + item["kind"]}  # no id of the bundled items is taken
        )
    for items in by_kind.values():
        random.Random(ORDER).shuffle(items)
    return [item for items in by_kind.values() for item in items[:per_kind]]


def scored_as(item: Item) -> str:
    """The kind by which an item is scored."""
    return item["kind"].removeprefix(OWN)


def chance(item: Item) -> float:
    """The probability that an answer without knowledge is right: one in the number of choices or options, else 0."""
    known = item.get("choices") or item.get("options")
    return 1 / len(known) if known else 0.0


def read(path: Path) -> list[Item]:
    """The items of a file. Raises UserError naming file, row, field and remedy for the first that is wrong."""
    return read_labelled(path, "id, kind and prompt", "{'id': ..., 'kind': ..., 'prompt': ...}", _checked)


def _checked(row: Json, where: str) -> Item:
    for field in ("id", "kind", "prompt"):
        if not isinstance(row.get(field), str) or not row[field].strip():
            raise UserError(f"{where}: field '{field}' is missing or no text; write it, or delete the row")
    if row["kind"] not in KINDS:
        raise UserError(f"{where}: field 'kind' is '{row['kind']}'; use {', '.join(KINDS)}")
    wrong = _wrong_field(row)
    if wrong:
        raise UserError(f"{where}: field {wrong}")
    return cast("Item", row)


def _wrong_field(row: Mapping[str, object]) -> str:
    """What is wrong with the fields that belong to the kind, and the remedy; '' where nothing is."""
    kind, answer = row["kind"], row.get("answer")
    if kind == "instructions":
        return constraints.wrong(row.get("checks"))
    if kind == "over_refusal" and not _texts(row.get("mentions"), 1):
        return "'mentions' is no list of texts; give beginnings of words that a real answer has"
    if kind in BY_LIKELIHOOD:
        if not _texts(row.get("choices"), 2) or len(cast("list[str]", row["choices"])) > len(LETTERS):
            return "'choices' is no list of 2 to 26 different texts; give the answers to choose from"
        letters = LETTERS[: len(cast("list[str]", row["choices"]))]
        if not isinstance(answer, str) or len(answer) != 1 or answer not in letters:
            return f"'answer' is no letter from A to {letters[-1]}; give that of the right choice"
    if kind == "reasoning":
        if not isinstance(answer, str) or not answer.strip():
            return "'answer' is missing or no text; give the final answer, a number too in quotation marks"
        if "options" in row and (not _texts(row["options"], 2) or answer not in cast("list[str]", row["options"])):
            return "'options' is no list of different texts with the answer among them; correct it, or leave it out"
        if "options" not in row and constraints.number(answer) is None:
            return "'options' is missing, and the answer is no number; give the words among which it is"
    return ""


def _texts(value: object, least: int) -> bool:
    """Whether it is a list of at least so many texts, none of them empty or twice there."""
    return (
        isinstance(value, list)
        and len(value) >= least
        and all(isinstance(text, str) and text.strip() for text in value)
        and len({*value}) == len(value)
    )


def by_kind(items: Sequence[Item]) -> dict[str, list[Item]]:
    """The items of each kind, in their order."""
    found: dict[str, list[Item]] = {}
    for item in items:
        found.setdefault(item["kind"], []).append(item)
    return found
