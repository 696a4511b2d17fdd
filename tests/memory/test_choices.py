"""What is chosen for speed: only where it fits with room to spare, alike in all processes, and with its reason."""

from dataclasses import replace

import pytest
from transformers import LlamaConfig

from medsft.hardware import specs
from medsft.memory import choices
from medsft.memory.planner import predict
from medsft.memory.strategies import STRATEGIES

TINY = LlamaConfig(
    vocab_size=1000, hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2,
)  # fmt: skip
A100 = specs.described(specs.machine("."), "a100-80gb", 1, "167GB", "2TB")
LAPTOP = specs.described(A100, "none")


def test_checkpointing_is_left_out_where_a_twelfth_of_the_gpu_stays_free():
    needed = predict("lora", TINY, A100, 2, 64, checkpointing=False)["device_bytes"]
    just = replace(A100, device_bytes=int(needed / choices.ROOM) + 1)
    assert "without it" in choices.without_checkpointing("lora", TINY, just, 2, 64, checkpointing=True)
    tight = replace(A100, device_bytes=int(needed / choices.ROOM) - 1)
    assert choices.without_checkpointing("lora", TINY, tight, 2, 64, checkpointing=True) == ""
    # what is free now differs between processes, which must choose alike
    busy = replace(just, device_available_bytes=1)
    assert choices.without_checkpointing("lora", TINY, busy, 2, 64, checkpointing=True)


@pytest.mark.parametrize("name", [n for n, s in STRATEGIES.items() if s.engine])
def test_a_sharding_engine_keeps_it(name):
    assert choices.without_checkpointing(name, TINY, A100, 2, 64, checkpointing=True) == ""


def test_lines_say_what_and_why():
    (first, *_, last) = choices.lines("lora", TINY, A100, 2, 64)
    assert first.startswith("activation_checkpointing false (") and "expandable_segments" in last
    two = specs.described(A100, gpus=2)
    assert any("cpu_affinity" in line for line in choices.lines("full_zero3_offload", TINY, two, 2, 64))
    assert choices.lines("lora", TINY, LAPTOP, 2, 64) == []
