"""Decoding a batch in several ways at once: as each way alone, as transformers alone, and drawn as the nucleus says."""

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    LogitsProcessorList,
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
