"""Decoding a batch in several ways at once: as each way alone, as transformers alone, and drawn as the nucleus says."""

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma3TextConfig,
    GenerationConfig,
    Lfm2Config,
    LogitsProcessorList,
    MistralConfig,
    PreTrainedModel,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from medsft.inference import decoding
from medsft.inference.decoding import decode
from medsft.inference.sampling import Sampling
from medsft.models import grouped_attention, loading

PENALISED = Sampling(0.0, 1.0, 0, 1.5)
WAYS = (None, Sampling(1.0, 0.9, 1), Sampling(0.7, 0.5, 2), PENALISED)
PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [12, 13], [21, 22, 23, 24], [31]]
NEW = 80  # more than twice the tokens after which ended answers leave
PAD = 0


@pytest.fixture(scope="module", params=["eager", "sdpa", grouped_attention.NAME])
def network(request: pytest.FixtureRequest, random_model: Path) -> PreTrainedModel:
    if request.param == grouped_attention.NAME:
        config = loading.load_config(str(random_model))
        config.num_key_value_heads = 2
        torch.manual_seed(0)
        network = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        assert grouped_attention.use(network)
    else:
        network = loading.load_model(str(random_model), "float32")
        network.set_attn_implementation(request.param)
    # a random model finds all tokens about as likely, so that what is drawn would follow from rounding
    network.lm_head.weight.data *= 20
    return network.eval()


@pytest.fixture(scope="module")
def stops(network: PreTrainedModel) -> set[int]:
    """A token that ends some of the answers early, and others late or never."""
    (long,) = decode(network, [PROMPTS[0]], NEW, {PAD}, PAD)
    return {long[0][10]}


def test_several_ways_at_once_are_each_way_alone_and_each_question_alone(network, stops) -> None:
    together = decode(network, PROMPTS, NEW, stops, PAD, WAYS)
    assert together == [decode(network, PROMPTS, NEW, stops, PAD, [way])[0] for way in WAYS]
    alone = [decode(network, [prompt], NEW, stops, PAD, WAYS) for prompt in PROMPTS]
    assert together == [[one[way][0] for one in alone] for way in range(len(WAYS))]
    lengths = {len(answer) for answers in together for answer in answers}
    assert min(lengths) < decoding.STEPS < max(lengths) == NEW
    assert together[1] != together[2] != together[0]


@pytest.mark.parametrize("way", [None, PENALISED])
def test_without_drawing_it_is_what_transformers_gives(network, stops, way: Sampling | None) -> None:
    penalty = {"repetition_penalty": way.repetition_penalty} if way else {}
    for prompt, ours in zip(PROMPTS, decode(network, PROMPTS, NEW, stops, PAD, [None, way])[1], strict=True):
        theirs = network.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=NEW,
            do_sample=False,
            eos_token_id=[*stops],
            pad_token_id=PAD,
            **penalty,
        )
        assert ours == theirs[0, len(prompt) :].tolist()


def test_answers_that_ended_leave_the_batch(network, stops) -> None:
    sizes: list[int] = []
    hook = network.register_forward_hook(lambda _, __, output: sizes.append(output.logits.shape[0]))
    try:
        answers = decode(network, PROMPTS, NEW, stops, PAD, WAYS)
    finally:
        hook.remove()
    left = sum(len(answer) > decoding.STEPS for some in answers for answer in some)
    assert sizes[0] == len(PROMPTS)  # the prompts, once for all ways
    assert sizes[1] == len(PROMPTS) * len(WAYS) > sizes[1 + decoding.STEPS] == left


def test_a_models_own_settings_change_nothing(network, stops) -> None:
    """A model may come with a penalty or a length of its own, which its trained arms would not have."""
    ours, kept = decode(network, PROMPTS, NEW, stops, PAD, WAYS), network.generation_config
    own = {"repetition_penalty": 2.0, "no_repeat_ngram_size": 2, "min_new_tokens": 50, "forced_eos_token_id": 7}
    own |= {"use_cache": False, "num_beams": 2, "renormalize_logits": True, "suppress_tokens": [ours[0][0][0]]}
    own |= {"do_sample": True, "temperature": 0.1, "top_k": 3, "cache_implementation": "static", "max_length": 9}
    own |= {"exponential_decay_length_penalty": (1, 2.0), "begin_suppress_tokens": [ours[0][0][0]], "max_time": 0.001}
    try:
        network.generation_config = GenerationConfig(**own)
        assert decode(network, PROMPTS, NEW, stops, PAD, WAYS) == ours
    finally:
        network.generation_config = kept


SMALL = {"vocab_size": 128, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
SMALL |= {"num_attention_heads": 2, "num_key_value_heads": 1, "pad_token_id": 0, "initializer_range": 0.3}
OTHERS = {
    "sliding": MistralConfig(**SMALL, sliding_window=8),
    "both": Gemma3TextConfig(
        **SMALL, head_dim=16, sliding_window=8, layer_types=["sliding_attention", "full_attention"]
    ),
    "state": Lfm2Config(**SMALL, layer_types=["conv", "full_attention"]),
    "alibi": BloomConfig(vocab_size=128, hidden_size=32, n_layer=2, n_head=2, pad_token_id=0, initializer_range=0.3),
}


@pytest.mark.parametrize("name", OTHERS)
def test_models_that_keep_something_else_answer_as_alone(name: str) -> None:
    """A window of eight tokens, a window beside whole attention, a convolution's state, and a bias by position."""
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(OTHERS[name], attn_implementation="eager").eval()
    found = decode(network, PROMPTS[:2], 40, {1}, PAD, [None, None, Sampling(0.7, 0.9, 1)])
    for prompt, ours, again in zip(PROMPTS[:2], *found[:2], strict=True):
        theirs = network.generate(torch.tensor([prompt]), max_new_tokens=40, eos_token_id=1, do_sample=False)
        assert ours == again == theirs[0, len(prompt) :].tolist()
    assert found[2] != found[0]


def test_tokens_are_drawn_as_often_as_the_nucleus_says() -> None:
    """Against the processors of transformers: nothing outside, and inside within four standard errors."""
    torch.manual_seed(0)
    scores, draws = torch.randn(1, 50), 20_000
    way = Sampling(0.8, 0.9, 0)
    warp = LogitsProcessorList([TemperatureLogitsWarper(way.temperature), TopPLogitsWarper(way.top_p)])
    expected = torch.softmax(warp(None, scores), dim=-1)[0]
    draw = decoding.Draw([way] * draws, range(draws), [0] * draws)
    counts = torch.bincount(draw.nucleus(scores.expand(draws, -1), range(draws)), minlength=50)
    assert 2 < (expected > 0).sum() < 30
    assert counts[expected == 0].sum() == 0
    error = (expected * (1 - expected) / draws).sqrt()
    assert ((counts / draws - expected).abs() <= 4 * error + 1e-9).all()
