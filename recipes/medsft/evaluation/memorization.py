"""Verbatim memorization: does the model continue a training answer word for word from its first tokens?

The test of Carlini et al. (2023, arXiv:2202.07646) with 30 tokens of prefix and 30 of continuation, as in studies of
clinical fine-tuning. The baseline saw none of these rows, so its numbers show how much is predictable anyway. An arm is
asked for rows that it was trained on, the first `train_rows` of the split (its train.json).

Formula: recited = 1 where all 30 greedy tokens equal the true ones, else 0; matched = equal tokens before the first
    difference; agreement = equal tokens / 30.
Direction: less (recited, matched, agreement)
Range: 0 to 1 (recited, agreement); 0 to 30 (matched)
Source: Carlini et al. 2023.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from medsft.records import SplitRow
from medsft.tokenization.chat_template import prompt_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PREFIX, CONTINUATION = 30, 30  # tokens


class Probe(NamedTuple):
    """A training row with the token ids of its prompt and prefix, and of the true continuation."""

    row: SplitRow
    prompt: list[int]
    truth: list[int]


class Match(TypedDict):
    """`matched`: leading tokens of 30 that are equal; `agreement`: share of equal tokens; `recited`: 1 if all are."""

    matched: float
    agreement: float
    recited: float


class Memorization(Match):
    """A row of memorization.jsonl."""

    id: str | int
    group: str | int


def probes(tokenizer: "PreTrainedTokenizerBase", rows: Iterable[SplitRow], wanted: int) -> list[Probe]:
    """The first `wanted` rows with a long enough answer, as probes."""
    found: list[Probe] = []
    for row in rows:
        if len(found) == wanted:
            break
        answer = tokenizer(row["messages"][-1]["content"], add_special_tokens=False)["input_ids"]
        if len(answer) < PREFIX + CONTINUATION:
            continue
        asked = prompt_ids(tokenizer, row["messages"][:-1])
        found.append(Probe(row, [*asked, *answer[:PREFIX]], answer[PREFIX : PREFIX + CONTINUATION]))
    return found


def memorization(
    tokenizer: "PreTrainedTokenizerBase",
    rows: Iterable[SplitRow],
    wanted: int,
    complete: Callable[[list[list[int]], int], list[list[int]]],
) -> list[Memorization]:
    """One result for each probe of the training rows.

    `complete` takes prompts as token ids and a number of new tokens, and returns the greedy new tokens of each.
    """
    asked = probes(tokenizer, rows, wanted)
    if not asked:
        return []
    produced = complete([probe.prompt for probe in asked], CONTINUATION)
    return [
        {"id": probe.row["id"], "group": probe.row["group"], **match(new, probe.truth)}
        for probe, new in zip(asked, produced, strict=True)
    ]


def match(produced: Sequence[int], truth: Sequence[int]) -> Match:
    """How far a continuation agrees with the true one."""
    equal = [at < len(produced) and produced[at] == token for at, token in enumerate(truth)]
    matched = next((at for at, same in enumerate(equal) if not same), len(truth))
    return {"matched": float(matched), "agreement": sum(equal) / len(truth), "recited": float(all(equal))}
