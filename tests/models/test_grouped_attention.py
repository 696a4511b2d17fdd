"""Attention without copied keys: the same logits, gradients and answers as transformers' own eager attention."""

import pytest
import torch
from transformers import AutoModelForCausalLM, GemmaConfig, LlamaConfig, Qwen3Config
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel

from medsft.models import grouped_attention

SIZES = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 8,
         "num_attention_heads": 4, "num_key_value_heads": 2, "attn_implementation": "eager"}  # fmt: skip


def model(kind: type = LlamaConfig, **changed: object) -> PreTrainedModel:
    torch.manual_seed(0)
    made: PreTrainedModel = AutoModelForCausalLM.from_config(kind(**{**SIZES, **changed}), dtype=torch.float32)
    return made.eval()


def padded() -> dict[str, torch.Tensor]:
    ids = torch.arange(3, 3 + 2 * 11).view(2, 11)
    mask = torch.ones_like(ids)
    mask[0, :4] = 0  # the first row is shorter: padded on the left, as for answers
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("kind", [LlamaConfig, Qwen3Config])
def test_logits_and_gradients_are_those_of_eager_attention(kind: type) -> None:
    found = []
    for grouped in (False, True):
        network, rows = model(kind), padded()
        assert grouped_attention.use(network) if grouped else True
        logits = network(**rows).logits[rows["attention_mask"].bool()]
        logits.log_softmax(-1)[:, 5].sum().backward()
        gradients = [p.grad.flatten() for p in network.parameters() if p.grad is not None]
        found.append((logits.detach(), torch.cat(gradients)))
    (eager, eager_gradients), (ours, our_gradients) = found
    assert torch.allclose(eager, ours, atol=1e-5)
    assert torch.allclose(eager_gradients, our_gradients, atol=1e-4)


def test_answers_with_a_cache_are_those_of_eager_attention() -> None:
    network, options = model(), {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
    before = network.generate(**padded(), **options)
    assert grouped_attention.use(network)
    assert torch.equal(before, network.generate(**padded(), **options))


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        (LlamaConfig, {"num_key_value_heads": 4}),  # no groups
        (LlamaConfig, {"attn_implementation": "sdpa"}),
        (GemmaConfig, {}),  # not among those whose eager attention is known to be plain
    ],
)
def test_other_models_are_left_alone(kind: type, changed: dict) -> None:
    network = model(kind, **changed)
    before = network.config._attn_implementation
    assert not grouped_attention.use(network)
    assert network.config._attn_implementation == before


def test_the_eager_attention_it_stands_in_for_is_still_the_same_arithmetic() -> None:
    """One layer, as transformers has it for each of the model types, against ours: a change there is noticed."""
    import importlib

    grouped_attention.use(model())
    assert grouped_attention.NAME in ALL_ATTENTION_FUNCTIONS and grouped_attention.NAME in ALL_MASK_ATTENTION_FUNCTIONS
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 6, 5, 8), torch.randn(2, 2, 7, 8), torch.randn(2, 2, 7, 8)
    mask = torch.zeros(2, 1, 5, 7).masked_fill(torch.rand(2, 1, 5, 7) < 0.3, -1e9)
    module = torch.nn.Module()
    module.num_key_value_groups = 3
    module.eval()
    for name in grouped_attention.PLAIN:
        theirs = importlib.import_module(f"transformers.models.{name}.modeling_{name}").eager_attention_forward
        for own, other in zip(
            grouped_attention.attention(module, query, key, value, mask, 0.35),
            theirs(module, query, key, value, mask, 0.35),
            strict=True,
        ):
            assert torch.allclose(own, other, atol=1e-6), name
