"""Multiple choice by likelihood: each choice is scored as the model's answer to the question, and none is shown to it.

Primary is the likelihood of the whole choice (`acc` of lm-evaluation-harness). It favours short texts, but the choices
of a bundled item are about as long as each other, and of answers of a few tokens it reads more: the untrained
SmolLM2-135M is right on 71 of 96 items by it, on 62 by the likelihood a byte (`acc_norm`), which is kept beside it. The
end of turn is not scored.
"""

from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

from medsft.errors import UserError
from medsft.evaluation import likelihood
from medsft.evaluation.forgetting.items import LETTERS
from medsft.evaluation.likelihood import Scored
from medsft.records import Turn
from medsft.tokenization.chat_template import stop_ids, training_template

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Chosen(NamedTuple):
    """Letters of the choices with the highest likelihood: as a whole, and a byte."""

    raw: str
    normalised: str


def encode(tokenizer: "PreTrainedTokenizerBase", prompt: str, choices: Sequence[str]) -> list[Scored]:
    """A dialogue for each choice, with the positions of its tokens.

    Raises UserError where the chat template does not begin them all alike.
    """
    question: Turn = {"role": "user", "content": prompt}
    dialogues: list[list[Turn]] = [[question, {"role": "assistant", "content": choice}] for choice in choices]
    try:
        template = training_template(tokenizer)
        scored = [likelihood.last_answer(tokenizer, messages, template) for messages in dialogues]
    except UserError:
        scored = [likelihood.last_answer_unmarked(tokenizer, messages) for messages in dialogues]
    stops = stop_ids(tokenizer)
    kept = [Scored(s.ids, [*takewhile(lambda at, s=s: s.ids[at] not in stops, s.positions)]) for s in scored]  # type: ignore[misc]
    start = kept[0].positions[0] if kept[0].positions else 0
    if not start or any(s.positions[:1] != [start] or s.ids[:start] != kept[0].ids[:start] for s in kept):
        raise UserError(
            "the chat template changes the question when an answer follows, so choices cannot be compared; give "
            "another template with the model"
        )
    return kept


def chosen(nll: Sequence[float], choices: Sequence[str]) -> Chosen:
    """The best choice by the negative log-likelihood of each, as it is and divided by its bytes. First of equals."""
    a_byte = [value / len(choice.encode("utf-8")) for value, choice in zip(nll, choices, strict=True)]
    return Chosen(LETTERS[[*nll].index(min(nll))], LETTERS[a_byte.index(min(a_byte))])


def batch_nll(network: "PreTrainedModel", questions: Sequence[Sequence[Scored]], pad: int) -> list[list[float]]:
    """Summed negative log-likelihood in nats of each choice of each question, computed in float32.

    Two passes: one over the questions, whose cache all their choices share, and one over the choices. The last token
    of a question is read in the second, as it predicts the first token of a choice.
    """
    import torch

    device = network.device
    heads = [choices[0].ids[: choices[0].positions[0] - 1] for choices in questions]
    longest = max(map(len, heads))
    ids = torch.tensor([[pad] * (longest - len(head)) + head for head in heads], device=device)
    mask = torch.tensor([[0] * (longest - len(head)) + [1] * len(head) for head in heads], device=device)
    tails = [
        (at, scored.ids[scored.positions[0] - 1 : scored.positions[-1] + 1])
        for at, choices in enumerate(questions)
        for scored in choices
    ]
    width = max(len(tail) for _, tail in tails)
    owner = torch.tensor([at for at, _ in tails], device=device)
    words = torch.tensor([tail + [pad] * (width - len(tail)) for _, tail in tails], device=device)
    there = torch.tensor([[1] * len(tail) + [0] * (width - len(tail)) for _, tail in tails], device=device)
    places = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.inference_mode():
        first = network(input_ids=ids, attention_mask=mask, position_ids=places, use_cache=True, logits_to_keep=1)
        cache = first.past_key_values
        cache.batch_select_indices(owner)
        logits = network(
            input_ids=words,
            attention_mask=torch.cat([mask[owner], there], dim=1),
            position_ids=mask.sum(-1)[owner, None] + torch.arange(width, device=device),
            past_key_values=cache,
            use_cache=True,
        ).logits
    found: list[list[float]] = [[] for _ in questions]
    for row, (at, tail) in enumerate(tails):  # one by one: float32 of all would be the most memory that is needed
        log_probabilities = torch.log_softmax(logits[row, : len(tail) - 1].float(), dim=-1)
        found[at].append(-log_probabilities.gather(1, words[row, 1 : len(tail), None]).sum().item())
    return found
