"""Seconds per step by the roofline, by hand."""

from dataclasses import replace

import pytest

from medsft.hardware.specs import Hardware, described, machine
from medsft.memory.step_time import seconds_per_step
from medsft.memory.strategies import STRATEGIES

GPU = Hardware("x", 1, 80 * 10**9, 80 * 10**9, 250.0, 2000.0, 10**11, 10**11, 10**12, 16)
BILLION, TOKENS = 10**9, 2048


def seconds(hardware=GPU, trains_all=True, held=2 * BILLION, pcie=0, swap=0):
    return seconds_per_step(BILLION, trains_all, TOKENS, held, pcie, swap, hardware)


def test_arithmetic_bounds_a_step_on_a_gpu():
    assert seconds() == pytest.approx(8 * BILLION * TOKENS / (0.5 * 250e12), abs=0.005)
    assert seconds(trains_all=False) == pytest.approx(0.75 * seconds(), abs=0.01)  # no gradients of the weights


def test_memory_traffic_bounds_a_step_of_large_weights():
    assert seconds(held=200 * BILLION) == pytest.approx(3 * 200 / 2000, abs=0.005)


def test_transfers_overlap_with_arithmetic_and_the_hosts_optimizer_comes_on_top():
    bus, adam = 14 * BILLION / 25e9, BILLION / (0.6e9 * 8)
    assert seconds(pcie=14) == pytest.approx(bus + adam, abs=0.01)
    assert seconds(replace(GPU, gpus=2), pcie=14) == pytest.approx(bus / 2 + adam, abs=0.01)
    assert seconds(pcie=1) == pytest.approx(seconds() + adam, abs=0.01)  # moved while it computes
    assert seconds(swap=16) - seconds() == pytest.approx(2 * 16 * BILLION / 3e9, abs=0.01)


def test_a_processor_is_slower_and_an_unknown_gpu_is_not_guessed():
    processor = replace(GPU, gpus=0, cpus=2, tflops=None, bandwidth=None)
    assert seconds(processor, pcie=14) > 100 * seconds()
    assert seconds(replace(GPU, tflops=None)) is None


@pytest.mark.parametrize(("rows", "published"), [(8, 914), (16, 1373), (32, 1791)])
def test_zero3_offload_takes_what_was_published_within_a_factor_of_one_and_a_half(rows: int, published: int) -> None:
    """Tokens a second of ZeRO-3 offload, Llama-3.1-8B, 1,024 tokens a row, RTX 4090: arXiv 2603.16428."""
    gpu = described(machine("."), "rtx4090", 1, "256GB")
    offload, tokens = STRATEGIES["full_zero3_offload"], rows * 1024
    found = seconds_per_step(8_030_261_248, True, tokens, 10**9, offload.pcie, offload.swap, replace(gpu, cpus=16))
    assert found is not None
    assert 1 / 1.5 < found / (tokens / published) < 1.5
