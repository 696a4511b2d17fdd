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
KEPT = [(2, True), (2, False)]  # the recipe's own first


def test_checkpointing_is_left_out_where_a_twelfth_of_the_gpu_stays_free() -> None:
    needed = predict("lora", TINY, A100, 2, 64, checkpointing=False, accumulates=False)["device_bytes"]
    just = replace(A100, device_bytes=int(needed / choices.ROOM) + 1)
    choice = choices.fastest("lora", TINY, just, KEPT, 2, 64, 64)
    assert choice[:2] == (2, False) and "less time a step" in choice.reason
    tight = replace(A100, device_bytes=int(needed / choices.ROOM) - 1)
    assert choices.fastest("lora", TINY, tight, KEPT, 2, 64, 64) == (2, True, "")
    # what is free now differs between processes, which must choose alike
    busy = replace(just, device_available_bytes=1)
    assert choices.fastest("lora", TINY, busy, KEPT, 2, 64, 64) == choice


def test_a_larger_micro_batch_is_taken_where_it_fits() -> None:
    """Short rows wait for the launches of their kernels: four times the rows take as long."""
    pairs = choices.candidates(4, True, 16, True, True)
    assert choices.fastest("lora", TINY, A100, pairs, 16, 64, 64)[:2] == (16, False)
    needed = predict("lora", TINY, A100, 8, 64, checkpointing=False, accumulates=True)["device_bytes"]
    tight = replace(A100, device_bytes=int(needed / choices.ROOM) + 1)
    batch, checkpointing, _ = choices.fastest("lora", TINY, tight, pairs, 16, 64, 64)
    assert (batch, checkpointing) in {(8, False), (16, True)}
    assert choices.fastest("lora", TINY, LAPTOP, pairs, 16, 64, 64) == (4, True, "")


def test_candidates_share_the_rows_of_a_step_evenly() -> None:
    assert choices.candidates(4, True, 12, True, True) == [
        (4, True), (12, False), (12, True), (6, False), (6, True), (4, False),
    ]  # fmt: skip
    assert choices.candidates(4, False, 16, False, True) == [(4, False)]
    assert choices.candidates(4, True, 16, False, False) == [(4, True)]


def test_long_rows_gain_by_less_computing_and_short_ones_by_fewer_launches() -> None:
    def seconds(batch: int, checkpointing: bool, tokens: int) -> float:
        return choices.step_seconds("lora", 7 * 10**9, 32, A100, batch, checkpointing, 16, tokens)

    assert seconds(16, True, 100) < seconds(4, False, 100)
    assert seconds(4, False, 4000) < seconds(16, True, 4000)


@pytest.mark.parametrize("name", [n for n, s in STRATEGIES.items() if s.engine])
def test_a_sharding_engine_keeps_the_recipes_own(name: str) -> None:
    pairs = choices.candidates(2, True, 16, True, True)
    assert choices.fastest(name, TINY, A100, pairs, 16, 64, 64) == (2, True, "")


def test_lines_say_what_and_why() -> None:
    (first, *_, last) = choices.lines("lora", TINY, A100, 2, 16, 64)
    assert first.startswith("per_device_train_batch_size 16, activation_checkpointing false (")
    assert "expandable_segments" in last
    two = specs.described(A100, gpus=2)
    assert any("cpu_affinity" in line for line in choices.lines("full_zero3_offload", TINY, two, 2, 8, 64))
    assert choices.lines("lora", TINY, LAPTOP, 2, 16, 64) == []
