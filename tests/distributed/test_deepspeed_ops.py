"""Compiling DeepSpeed's operators, with the accelerators of DeepSpeed and with stand-ins for their compilers."""

import sys
from types import SimpleNamespace

import pytest

from medsft.distributed import deepspeed_ops
from medsft.errors import UserError


def compiled(monkeypatch: pytest.MonkeyPatch, known: set[str], gpus: int, *flags: str) -> list[str]:
    """Names of the operators that are compiled for an accelerator which knows these, on a machine with these GPUs."""
    import deepspeed.accelerator

    done: list[str] = []

    def builder(name: str) -> SimpleNamespace | None:
        return SimpleNamespace(load=lambda verbose: done.append(name)) if name in known else None

    accelerator = SimpleNamespace(create_op_builder=builder)
    monkeypatch.setattr(deepspeed.accelerator, "get_accelerator", lambda: accelerator)
    monkeypatch.setattr(deepspeed_ops, "visible_gpus", lambda: ("NVIDIA L4", gpus, 0, 0))
    monkeypatch.setattr(deepspeed_ops, "missing_tools", lambda: [])
    monkeypatch.setattr(deepspeed_ops, "has_libaio", lambda: True)
    monkeypatch.setattr(sys, "argv", ["deepspeed_ops", *flags])
    deepspeed_ops.main()
    return done


def test_what_cuda_has_no_builder_for_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from deepspeed.accelerator.cuda_accelerator import CUDA_Accelerator

    cuda = CUDA_Accelerator.__new__(CUDA_Accelerator)  # without a GPU to find
    cuda.class_dict = None
    has = {name for name in deepspeed_ops.BUILDERS if cuda.create_op_builder(name) is not None}
    assert "ShareMemCommBuilder" not in has  # what this test is about: its accelerator returns None
    assert compiled(monkeypatch, has, 1) == ["CPUAdamBuilder", "PinMemoryBuilder"]


def test_without_a_gpu_nothing_is_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    every = set(deepspeed_ops.BUILDERS)
    assert compiled(monkeypatch, every, 0) == ["CPUAdamBuilder", "ShareMemCommBuilder"]
    assert compiled(monkeypatch, every, 0, "--nvme")[-1] == "AsyncIOBuilder"


def test_nvme_beside_a_gpu_wants_the_toolkit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deepspeed_ops, "cuda_toolkit", lambda: False)
    with pytest.raises(UserError, match="CUDA toolkit"):
        compiled(monkeypatch, set(deepspeed_ops.BUILDERS), 1, "--nvme")
