"""An arm's answers to the items, scored: greedy texts in batches, and choices by their likelihood."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, NotRequired, TypedDict, cast

from medsft.evaluation.forgetting import choices, constraints, final_answer, refusals
from medsft.evaluation.forgetting.items import BY_LIKELIHOOD, Item, scored_as
from medsft.evaluation.likelihood import Scored
from medsft.files import fingerprint
from medsft.inference import generation, shards, vllm_backend
from medsft.inference.generation import Answerer
from medsft.inference.shards import Shard
from medsft.tokenization.answer_text import answer_text

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Row(TypedDict):
    """A row of forgetting.jsonl. `answer` is the text or the letter; `item` is a fingerprint of the item.

    `correct_normalised`: of a choice, by the likelihood a byte.
    """

    id: str
    kind: str
    correct: int
    answer: str
    item: str
    correct_normalised: NotRequired[int]


def rows(
    answerer: Answerer, items: Sequence[Item], done: Collection[str | int], max_new_tokens: int, batch_size: int
) -> Iterator[list[Row]]:
    """Yield scored rows batch by batch. Batches depend on `items` only, so a continued run gives the same answers.

    `batch_size` counts texts, so it holds as many questions as its choices fit into.
    """
    of_choices = [item for item in items if scored_as(item) in BY_LIKELIHOOD]
    asked = [choices.encode(answerer.tokenizer, item["prompt"], item["choices"]) for item in of_choices]

    widest = max([1, *(len(item["choices"]) for item in of_choices)])

    def choose(batch: list[int]) -> list[Row]:
        found = _nll(answerer, [asked[at] for at in batch])
        return [_chosen(of_choices[at], nll) for at, nll in zip(batch, found, strict=True)]

    yield from _batches(of_choices, [len(each[0].ids) for each in asked], choose, done, batch_size // widest)

    others = [item for item in items if scored_as(item) not in BY_LIKELIHOOD]
    prompts = generation.encode([[{"role": "user", "content": item["prompt"]}] for item in others], answerer.tokenizer)

    def write(batch: list[int]) -> list[Row]:
        produced = generation.complete(answerer, [prompts[at] for at in batch], max_new_tokens)
        texts = [answer_text(answerer.tokenizer, new).strip() for new in produced]
        return [_written(others[at], text) for at, text in zip(batch, texts, strict=True)]

    yield from _batches(others, [*map(len, prompts)], write, done, batch_size)


def _batches(
    items: Sequence[Item],
    lengths: Sequence[int],
    answer: Callable[[list[int]], list[Row]],
    done: Collection[str | int],
    size: int,
) -> Iterator[list[Row]]:
    """The answers to each batch of `size` items, or of one, with an item that is not done; longest first."""
    order = sorted(range(len(items)), key=lambda at: -lengths[at])
    for batch in shards.batches(order, max(1, size), lambda at: items[at]["id"] in done, Shard(), padded=True):
        yield answer(batch)


def _nll(answerer: Answerer, questions: Sequence[Sequence[Scored]]) -> list[list[float]]:
    if isinstance(answerer.network, vllm_backend.Engine):  # it reads each choice whole: no cache serves scored prompts
        found = iter(vllm_backend.nll(answerer.network, [scored for question in questions for scored in question]))
        return [[next(found) for _ in question] for question in questions]
    return choices.batch_nll(
        cast("PreTrainedModel", answerer.network), questions, cast("int", answerer.tokenizer.pad_token_id)
    )


def _chosen(item: Item, nll: Sequence[float]) -> Row:
    best = choices.chosen(nll, item["choices"])
    right = item["answer"]
    return {**_row(item, best.raw, best.raw == right), "correct_normalised": int(best.normalised == right)}


def _written(item: Item, text: str) -> Row:
    return _row(item, text, is_right(item, text))


def _row(item: Item, answer: str, correct: bool) -> Row:
    return {
        "id": item["id"],
        "kind": item["kind"],
        "correct": int(correct),
        "answer": answer,
        "item": fingerprint(item),
    }


def is_right(item: Item, text: str) -> bool:
    """Whether a written answer is right, by the item's kind."""
    kind = scored_as(item)
    if kind == "instructions":
        return not constraints.unmet(item["checks"], text)
    if kind == "refusal":
        return refusals.refused(text)
    if kind == "over_refusal":
        return refusals.answered(text, item["mentions"])
    return final_answer.is_right(text, item["answer"], item.get("options"))
