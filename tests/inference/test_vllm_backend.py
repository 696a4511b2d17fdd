"""What vLLM is told to take of a machine's memory, and what is refused before it is loaded. tests/serving runs it."""

from dataclasses import replace

import pytest

from medsft.arguments import GenerateArguments
from medsft.errors import DoesNotFit, UserError
from medsft.hardware.specs import Hardware
from medsft.inference import generation, vllm_backend
from medsft.inference.sampling import Sampling

GIB = 2**30
LAPTOP = Hardware("none", 0, 0, 0, None, None, 16 * GIB, 12 * GIB, 100 * GIB, 4)
GPUS = replace(LAPTOP, gpu="A100", gpus=2, device_bytes=80 * GIB, device_available_bytes=72 * GIB)


def test_on_a_processor_the_cache_has_a_bound_and_leaves_room_for_others() -> None:
    assert vllm_backend.memory(LAPTOP, GIB, 1) == {"kv_cache_memory_bytes": 2 * GIB}
    assert vllm_backend.memory(LAPTOP, 10 * GIB, 1) == {"kv_cache_memory_bytes": GIB}
    with pytest.raises(DoesNotFit, match="the weights take 11.8 GB of host memory, 12.9 are free"):
        vllm_backend.memory(LAPTOP, 11 * GIB, 1)


def test_on_a_gpu_vllm_takes_its_own_share_or_what_others_leave() -> None:
    assert vllm_backend.memory(GPUS, 14 * GIB, 1) == {"gpu_memory_utilization": 0.855}
    used = replace(GPUS, device_available_bytes=40 * GIB)
    assert vllm_backend.memory(used, 14 * GIB, 1) == {"gpu_memory_utilization": 0.475}
    assert vllm_backend.memory(used, 60 * GIB, 2) == {"gpu_memory_utilization": 0.475}
    with pytest.raises(DoesNotFit, match=r"of GPU memory, 42.9 are free; use more GPUs \(--tensor_parallel\)"):
        vllm_backend.memory(used, 60 * GIB, 1)
    with pytest.raises(UserError, match="tensor_parallel 4: this process may use 2 GPUs"):
        vllm_backend.memory(GPUS, 14 * GIB, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tensor_parallel": 0}, "give a whole number from 1"),
        ({"tensor_parallel": 2}, "only with --engine vllm"),
        ({"tensor_parallel": 2, "engine": "gguf", "arm": "lora_q8"}, "only with --engine vllm"),
    ],
)
def test_sizes_that_cannot_be_meant_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        generation.check(GenerateArguments(**changes))


def test_a_launch_of_several_processes_has_one_gpu_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(vllm_backend, "installed", lambda: True)
    with pytest.raises(UserError, match="start one process, without accelerate launch"):
        generation.check(GenerateArguments(engine="vllm", tensor_parallel=2))


def test_each_question_has_its_seed_whatever_is_asked_beside_it() -> None:
    drawn = Sampling(1.0, 0.9, 100)
    seeds = [drawn.seed_of(ids) for ids in ([1, 2], [1, 3], [1, 2, 3])]
    assert len({*seeds, drawn._replace(seed=101).seed_of([1, 2])}) == 4
    assert drawn.seed_of([1, 2]) == seeds[0]
    assert all(0 <= seed < 2**31 for seed in seeds)  # what engines take
