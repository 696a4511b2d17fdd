"""The dry run of DeepSpeed's engine: its settings and what is read from its peaks. The run itself: test_planner."""

import pytest
import torch
from transformers import LlamaConfig

from medsft.memory.trace import zero
from medsft.models.meta import empty_model

REQUEST = {"stage": 3, "batch": 4, "zero": {"sub_group_size": 7}, "bf16_states": False}


def test_the_engine_is_configured_as_accelerate_would():
    offloaded = zero.engine_settings(REQUEST | {"optimizer": "cpu", "parameters": "cpu"})
    pinned = {"device": "cpu", "pin_memory": True}
    assert offloaded["zero_optimization"] == {
        "stage": 3, "sub_group_size": 7, "offload_optimizer": pinned, "offload_param": pinned,
    }  # fmt: skip
    assert "torch_adam" not in offloaded["optimizer"]["params"]
    sharded = zero.engine_settings(REQUEST | {"optimizer": "none", "parameters": "none", "bf16_states": True})
    assert sharded["zero_optimization"] == {"stage": 3, "sub_group_size": 7}
    assert sharded["bf16"]["bf16_optimizer_states"] and sharded["optimizer"]["params"]["torch_adam"]


def test_the_highest_peak_is_the_last_of_equal_ones():
    peaks = {"warm/step": {"a": 9}, "measured/forward": {"a": 5}, "measured/step": {"a": 2, "b": 3}}
    assert zero.highest(peaks, "measured") == {"a": 2, "b": 3}
    assert zero.highest(peaks, "") == {"a": 9}


def test_the_layers_are_found_where_they_are_kept():
    config = LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=3, num_attention_heads=2, vocab_size=9)
    model = empty_model(config, "float32")
    parent, name, layers = zero.layer_list(model)
    assert getattr(parent, name) is layers and len(layers) == 3
    parent.layers = torch.nn.Identity()
    with pytest.raises(ValueError, match="3 layers"):
        zero.layer_list(model)


def test_an_engine_that_cannot_be_run_is_its_reason():
    assert zero.tried({"stage": 3}) == "KeyError: 'ranks'"
