"""Answers of one batch by transformers: the prompts are read once for all ways of decoding, and ended answers leave.

A question that is answered greedily, with a penalty and by several draws costs the reading of its prompt once; the
answers are then written side by side, where the weights are read once for all of them. Every question has a seed of its
own, so that what is drawn does not follow from what is asked beside it.
"""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, cast

import torch
from transformers import DynamicCache, LogitsProcessor, LogitsProcessorList, RepetitionPenaltyLogitsProcessor
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from medsft.inference.sampling import Sampling, Ways
from medsft.models import grouped_attention
from medsft.patches.transformers import attention_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.generation import GenerateDecoderOnlyOutput

# New tokens after which answers that have ended leave the batch. Copying the cache of the others costs about as much as
# two steps.
STEPS = 32
# What a model's own generation_config.json may say, and every arm must be decoded alike. `Draw` decides about tokens.
NEUTRAL = {
    "do_sample": False,
    "num_beams": 1,
    "use_cache": True,
    "cache_implementation": None,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "min_length": 0,
    "min_new_tokens": None,
    "max_length": None,
    "max_time": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "exponential_decay_length_penalty": None,
    "renormalize_logits": False,
}


class Draw(LogitsProcessor):
    """Leaves one token for each row of a batch to take: the likeliest, or one that is drawn.

    `ways`, `seeds` and `padding` have an entry for each row: how it is decoded, with which seed, and how many tokens of
    padding it starts with.
    """

    def __init__(self, ways: Ways, seeds: Sequence[int], padding: Sequence[int]) -> None:
        self.ways, self.padding = [*ways], [*padding]
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all rows but these."""
        self.ways, self.padding = [self.ways[row] for row in rows], [self.padding[row] for row in rows]
        self.generators = [self.generators[row] for row in rows]

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        scores = cast("torch.FloatTensor", scores.clone())
        for row, way in enumerate(self.ways):
            if way is not None and way.repetition_penalty > 1:
                said = cast("torch.LongTensor", input_ids[row : row + 1, self.padding[row] :])
                penalty = RepetitionPenaltyLogitsProcessor(way.repetition_penalty)
                scores[row] = penalty(said, cast("torch.FloatTensor", scores[row : row + 1]))[0]
        drawn = [row for row, way in enumerate(self.ways) if way is not None and way.temperature > 0]
        if drawn:
            scores[drawn, self.nucleus(scores[drawn], drawn)] = torch.inf
        return scores

    def nucleus(self, scores: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """A token for each of `rows` from its nucleus (Holtzman et al. 2020): the fewest likeliest that have top_p.

        By rejection: a token of the whole distribution is taken if all likelier ones together have less than top_p, and
        is drawn again otherwise. So the vocabulary is not sorted, which on a processor takes longer than the model.
        """
        ways = [cast("Sampling", self.ways[row]) for row in rows]
        heat = torch.tensor([way.temperature for way in ways], device=scores.device)
        top = torch.tensor([way.top_p for way in ways], device=scores.device)
        probabilities = torch.softmax(scores.float() / heat[:, None], dim=-1)
        sums = probabilities.cumsum(dim=-1)
        chosen = torch.zeros(len(rows), dtype=torch.long, device=scores.device)
        left = torch.arange(len(rows), device=scores.device)
        while len(left):
            points = [torch.rand(1, generator=self.generators[rows[at]]) for at in left.tolist()]
            places = torch.cat(points).to(scores.device)[:, None] * sums[left, -1:]
            found = torch.searchsorted(sums[left], places, right=True).clamp_(max=sums.shape[1] - 1)
            some = probabilities[left]
            likelier = torch.where(some > some.gather(1, found), some, 0.0).sum(dim=-1)
            taken = likelier < top[left]
            chosen[left[taken]] = found[taken, 0]
            left = left[~taken]
        return chosen


class Roomy(DynamicLayer):
    """Keys and values of one layer, (b, heads, tokens, d), with room for the next tokens, which the causal mask hides.

    The layers of transformers copy all keys and values for each new token, a fifth of a step's time on a processor.
    """

    keys: torch.Tensor
    values: torch.Tensor
    used = 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
        before, self.used = self.used, self.used + key_states.shape[-2]
        if (short := self.used - self.keys.shape[-2]) > 0:
            pad = (0, 0, 0, short + STEPS)
            self.keys, self.values = torch.nn.functional.pad(self.keys, pad), torch.nn.functional.pad(self.values, pad)
        self.keys[:, :, before : self.used] = key_states
        self.values[:, :, before : self.used] = value_states
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.used

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """(tokens that the mask is about, first of them): as many as `update` is going to return."""
        used, there = self.used + query_length, self.keys.shape[-2] if self.is_initialized else 0
        return there if used <= there else used + STEPS, 0


def _cache(network: "PreTrainedModel") -> DynamicCache | None:
    """An empty cache; None for a model that keeps another state than keys and values, of which no row can be taken.

    Room only for models whose attention takes the mask that hides it, and nothing else from the keys' number.
    """
    if not hasattr(network.config.get_text_config(), "num_attention_heads"):
        return None
    cache = DynamicCache(config=network.config)
    if any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers):
        return None
    eager = attention_of(network.config) in ("eager", grouped_attention.NAME)
    if network.device.type == "cpu" and eager and network.config.model_type in grouped_attention.PLAIN:
        cache.layers = [Roomy() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def decode(
    network: "PreTrainedModel",
    prompts: Sequence[list[int]],
    max_new_tokens: int,
    stops: Collection[int],
    pad: int,
    ways: Ways = (None,),
) -> list[list[list[int]]]:
    """For each way of decoding the new tokens of each prompt, up to and including the one that ends the turn.

    `prompts` times `ways` answers are written at once, and so many caches are held.
    """
    width, several = max(map(len, prompts)), len(ways)
    padding = [width - len(prompt) for prompt in prompts]
    ids = torch.tensor([[pad] * gap + prompt for gap, prompt in zip(padding, prompts, strict=True)])
    mask = torch.tensor([[0] * gap + [1] * (width - gap) for gap in padding])
    ids, mask = ids.to(network.device), mask.to(network.device)
    rows = [(number, at) for at in range(len(prompts)) for number in range(several)]
    seeds = [way.seed_of(prompts[at]) if (way := ways[number]) else 0 for number, at in rows]
    draw = Draw([ways[number] for number, _ in rows], seeds, [padding[at] for _, at in rows])
    found: list[list[list[int]]] = [[[] for _ in prompts] for _ in ways]
    cache = _cache(network)
    with torch.inference_mode():
        if cache is not None and several > 1 and width > 1:
            _read(network, ids[:, :-1], mask[:, :-1], cache)
            cache.batch_repeat_interleave(several)
        ids, mask = (some.repeat_interleave(several, 0) for some in (ids, mask))
        while rows and (done := ids.shape[1] - width) < max_new_tokens:
            output: GenerateDecoderOnlyOutput = network.generate(  # type: ignore[operator]
                input_ids=ids,
                attention_mask=mask,
                past_key_values=cache,
                max_new_tokens=min(STEPS, max_new_tokens - done) if cache is not None else max_new_tokens,
                eos_token_id=sorted(stops),
                pad_token_id=pad,
                logits_processor=LogitsProcessorList([draw]),
                return_dict_in_generate=True,
                **NEUTRAL,
            )
            ids = output.sequences
            if cache is not None:  # a model may have begun another one
                cache = cast("DynamicCache", output.past_key_values)
            for row, (number, at) in enumerate(rows):
                found[number][at] = until_stop(ids[row, width:].tolist(), stops)
            going = [row for row, (number, at) in enumerate(rows) if found[number][at][-1] not in stops]
            mask = torch.nn.functional.pad(mask, (0, ids.shape[1] - mask.shape[1]), value=1)
            if len(going) < len(rows):
                rows = [rows[row] for row in going]
                draw.keep(going)
                kept = torch.tensor(going, dtype=torch.long, device=ids.device)
                ids, mask = ids[kept], mask[kept]
                if cache is not None and going:
                    cache.batch_select_indices(kept)
    return found


def _read(network: "PreTrainedModel", ids: torch.Tensor, mask: torch.Tensor, cache: DynamicCache) -> None:
    """Put keys and values of left-padded tokens (b, n) into an empty cache."""
    places = (mask.cumsum(-1) - 1).clamp_(min=0)
    network(input_ids=ids, attention_mask=mask, position_ids=places, past_key_values=cache, logits_to_keep=1)


def until_stop(ids: list[int], stops: Collection[int]) -> list[int]:
    """The tokens up to the first that ends the turn, or all of them."""
    end = next((at for at, token in enumerate(ids) if token in stops), len(ids) - 1)
    return ids[: end + 1]
