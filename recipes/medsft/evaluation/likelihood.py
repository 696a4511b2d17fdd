"""Negative log-likelihood of the doctors' own answers under a model, given the conversation before them.

Only the tokens that carry loss in training count: the last answer's words and its end of turn. Nats per token cannot be
compared between tokenizers; bits per byte of the answer's UTF-8 text can.

Formula: nll = mean over answers of -sum(ln p) / tokens; nll_token_weighted = -sum of all ln p / all tokens;
    perplexity = exp(nll_token_weighted); bits_per_byte = mean over answers of -sum(log2 p) / bytes;
    bits_per_byte_byte_weighted = -sum of all log2 p / all bytes.
Direction: less (nll, nll_token_weighted, perplexity, bits_per_byte, bits_per_byte_byte_weighted)
Range: 0 and up (nll, nll_token_weighted, bits_per_byte, bits_per_byte_byte_weighted); 1 and up (perplexity)
Source: Jelinek et al. 1977 (perplexity); Gao et al. 2020, arXiv:2101.00027 (bits per byte).
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypedDict, cast

from medsft.errors import UserError
from medsft.inference.shards import Shard, batches
from medsft.records import Interval, Json, SplitRow, Turn
from medsft.tokenization.chat_template import prompt_ids, render, stop_ids, training_template
from medsft.tokenization.control_tokens import as_text

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from medsft.evaluation.statistics.intervals import Resampling

COLUMNS = ("nll", "bits_per_byte")


class Likelihood(TypedDict):
    """A row of likelihood.jsonl: `nll` in nats over all scored `tokens`, and the UTF-8 `bytes` of the answer."""

    id: str | int
    group: str | int
    nll: float
    tokens: int
    bytes: int


class Scored(NamedTuple):
    """A dialogue as token ids, and the positions whose tokens are scored (none of them the first)."""

    ids: list[int]
    positions: list[int]


def last_answer(tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Turn], template: str) -> Scored:
    """Token ids of the whole dialogue, and the positions of the last answer with its end of turn."""
    asked = prompt_ids(tokenizer, messages[:-1])
    whole = render(tokenizer, messages, template)
    start = max(1, len(asked) if whole.input_ids[: len(asked)] == asked else _last_run(whole.loss_mask))
    return Scored(whole.input_ids, [at for at in range(start, len(whole.loss_mask)) if whole.loss_mask[at]])


def last_answer_unmarked(tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Turn]) -> Scored:
    """The same where no template marks the answers: the tokens after the question, up to the last end of turn.

    For arms trained with a template of their own, which is saved without its generation marks.
    """
    asked = prompt_ids(tokenizer, messages[:-1])
    encoded = tokenizer.apply_chat_template(as_text(tokenizer, messages), tokenize=True, return_dict=True)  # type: ignore[arg-type]
    whole = [*cast("Mapping[str, list[int]]", encoded)["input_ids"]]
    if whole[: len(asked)] != asked:
        raise UserError(
            "the chat template changes the question when an answer follows, so the answer's tokens cannot be found; "
            "leave the likelihood out with --likelihood_rows 0"
        )
    stops = stop_ids(tokenizer)
    end = max((at for at, token in enumerate(whole) if token in stops), default=len(whole) - 1)
    return Scored(whole, [*range(max(1, len(asked)), end + 1)])


def _last_run(mask: list[int]) -> int:
    """Start of the last unbroken run of ones; some templates join a prompt to its answer in one token."""
    end = max(at for at, kept in enumerate(mask) if kept)
    return max((at for at in range(end) if not mask[at]), default=-1) + 1


def likelihood(
    tokenizer: "PreTrainedTokenizerBase",
    rows: Sequence[SplitRow],
    batch_size: int,
    nll: Callable[[list[Scored]], list[float]],
    done: Collection[str | int] = (),
    shard: Shard = Shard(),  # noqa: B008 - it is frozen
) -> list[Likelihood]:
    """The likelihood of the last answer of each row that this process has to measure; not of those in `done`.

    `nll` returns the summed negative log-likelihood of each dialogue of a batch: `batch_nll` of a loaded network, or
    that of the vLLM backend.
    """
    from tqdm import tqdm

    try:
        template = training_template(tokenizer)
        scored = [last_answer(tokenizer, row["messages"], template) for row in rows]
    except UserError:
        scored = [last_answer_unmarked(tokenizer, row["messages"]) for row in rows]
    order = sorted(range(len(rows)), key=lambda i: len(scored[i].ids), reverse=True)
    totals: dict[int, float] = {}
    own = [*batches(order, batch_size, lambda i: rows[i]["id"] in done, shard, padded=True)]
    for batch in tqdm(own, desc="likelihood of the doctors' answers", delay=2, disable=not shard.is_first):
        totals |= zip(batch, nll([scored[i] for i in batch]), strict=True)
    return [
        {
            "id": row["id"],
            "group": row["group"],
            "nll": totals[at],
            "tokens": len(scored[at].positions),
            "bytes": len(row["messages"][-1]["content"].encode("utf-8", "replace")),
        }
        for at, row in enumerate(rows)
        if at in totals
    ]


def batch_nll(network: "PreTrainedModel", dialogues: Sequence[Scored], pad: int) -> list[float]:
    """Summed negative log-likelihood in nats of each dialogue's scored positions, computed in float32.

    Padding is on the right, out of sight of causal attention. Logits are computed from the first scored position on.
    """
    import torch

    longest = max(len(dialogue.ids) for dialogue in dialogues)
    ids = torch.tensor([d.ids + [pad] * (longest - len(d.ids)) for d in dialogues], device=network.device)
    mask = torch.tensor([[1] * len(d.ids) + [0] * (longest - len(d.ids)) for d in dialogues], device=network.device)
    first = min(d.positions[0] for d in dialogues) - 1
    with torch.inference_mode():
        logits = network(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=longest - first).logits
    values = []
    for row, dialogue in enumerate(dialogues):
        at = torch.tensor(dialogue.positions, device=network.device)
        log_probabilities = torch.log_softmax(logits[row, at - 1 - first].float(), dim=-1)
        values.append(-log_probabilities.gather(1, ids[row, at, None]).sum().item())
    return values


def columns(rows: Sequence[Json]) -> dict[str, dict[str | int, float]]:
    """From rows of likelihood.jsonl, by row id: `nll` in nats per answer token, and `bits_per_byte`."""
    if not rows:
        return {}
    return {
        "nll": {row["id"]: row["nll"] / row["tokens"] for row in rows},
        "bits_per_byte": {row["id"]: row["nll"] / math.log(2) / max(1, row["bytes"]) for row in rows},
    }


def weighted(rows: Sequence[Json], resampling: "Resampling") -> dict[str, Interval]:
    """`nll_token_weighted` and `perplexity`, its exponential, over all tokens; bits per byte over all bytes.

    `columns` has one mean for each answer instead, so that answers weigh alike.
    """
    from medsft.evaluation.statistics.intervals import ratio_interval

    groups, nats = [row["group"] for row in rows], [row["nll"] for row in rows]
    nll = ratio_interval(nats, [float(row["tokens"]) for row in rows], groups, resampling)
    bits = [value / math.log(2) for value in nats]
    found = {
        "nll_token_weighted": nll,
        "perplexity": exponential(nll),
        "bits_per_byte_byte_weighted": ratio_interval(
            bits, [float(max(1, row["bytes"])) for row in rows], groups, resampling
        ),
    }
    return {name: {**value, "n": len(rows)} for name, value in found.items()}


def exponential(found: Interval) -> Interval:
    """The interval with exp of its mean and ends."""
    low, high = (None if end is None else math.exp(end) for end in (found["low"], found["high"]))
    return {**found, "mean": math.exp(found["mean"]), "low": low, "high": high}
