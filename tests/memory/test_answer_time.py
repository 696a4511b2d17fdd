"""Hours to answer: the formula by hand, and its limits."""

from dataclasses import replace

import pytest

from medsft.hardware.specs import Hardware, described, machine
from medsft.memory.answer_time import Work, estimate
from medsft.models.parameter_counts import cache_bytes, count_parameters, known_config

SMALL = known_config("mistralai/Mistral-7B-Instruct-v0.2")
LARGE = known_config("meta-llama/Llama-3.1-70B-Instruct")
WORK = Work(1000, 200, 100)


@pytest.fixture(scope="module")
def h100() -> Hardware:
    return described(machine("."), "h100", 1)


def test_the_models_are_those_that_are_named() -> None:
    assert count_parameters(LARGE) == 70_553_706_496
    assert cache_bytes(SMALL) == 131_072  # 2 x 32 layers x 8 heads x 128 x 2 bytes
    assert cache_bytes(LARGE) == 327_680


def test_the_formula_by_hand(h100: Hardware) -> None:
    found = estimate(SMALL, h100, 1, WORK)
    assert found and (found.split, found.copies, found.batch) == (1, 1, 256)
    reading = 2 * 7_241_732_096 * 200 / (0.5 * 989e12)
    step = (2 * 7_241_732_096 + 256 * 131_072 * 250) / (0.6 * 3350e9)  # more than the arithmetic of 256 tokens
    assert step > 2 * 7_241_732_096 * 256 / (0.5 * 989e12)
    assert found.hours == pytest.approx(1000 * (reading + 100 * step / 256) / 3600)
    assert found.tokens_per_second == pytest.approx(1000 * 100 / (found.hours * 3600))


def test_copies_share_the_rows_and_cost_the_same(h100: Hardware) -> None:
    one, many = estimate(SMALL, h100, 1, WORK), estimate(SMALL, h100, 64, WORK)
    assert one and many and many.copies == 64
    assert many.hours == pytest.approx(one.hours / 64) and many.gpu_hours == pytest.approx(one.gpu_hours)


def test_a_large_model_is_split_and_does_not_fit_one_gpu(h100: Hardware) -> None:
    assert estimate(LARGE, h100, 1, WORK) is None
    split = estimate(LARGE, h100, 8, WORK)
    assert split and split.split > 1 and split.split * split.copies == 8
    quantized = estimate(LARGE, h100, 1, WORK, bits_per_weight=4.8)
    assert quantized and (quantized.split, quantized.batch) == (1, 256)  # 42 GB of weights and 25 GB of cache
    small = replace(h100, device_bytes=h100.device_bytes // 4)
    assert estimate(LARGE, small, 1, WORK, bits_per_weight=4.8) is None
