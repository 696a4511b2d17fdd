"""Answers to dev rows while an arm is trained, and what they are like: by these a checkpoint can be chosen."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from medsft.inference.generation import Answerer, complete, encode
from medsft.records import Turn
from medsft.tokenization.answer_text import answer_text
from medsft.tokenization.chat_template import stop_ids

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BATCH = 8  # rows answered at once


def score(
    network: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", rows: Sequence[list[Turn]], max_new_tokens: int
) -> dict[str, list[float]]:
    """Greedy answers to `rows`, whose last turn is the doctor's: rougeL, rouge1, end_of_turn and loop of each.

    `tokenizer` pads on the left.
    """
    from medsft.evaluation.metrics.behaviour import end_of_turn, loops
    from medsft.evaluation.metrics.overlap import rouge

    answerer = Answerer(network, tokenizer, "", "", "transformers")
    asked = encode([turns[:-1] for turns in rows], tokenizer)
    new: list[list[int]] = []
    for start in range(0, len(asked), BATCH):
        new += complete(answerer, asked[start : start + BATCH], max_new_tokens)
    stops = stop_ids(tokenizer)
    texts = [answer_text(tokenizer, ids).strip() for ids in new]
    likeness = rouge(texts, [turns[-1]["content"] for turns in rows])
    return {
        "rougeL": likeness["rougeL"],
        "rouge1": likeness["rouge1"],
        "end_of_turn": end_of_turn([bool(ids) and ids[-1] in stops for ids in new]),
        "loop": [float(loops(text)) for text in texts],
    }
