"""Private names of DeepSpeed that its dry run uses or replaces, and what stands in for the devices.

tests/memory/test_library_patches.py fails when the library changes one of them.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import torch

from medsft.memory.trace.library_patches import KERNELS, nothing

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine

    from medsft.memory.trace.trackers import DeviceHostTracker

AGREEMENT = ("assert_ints_same_as_other_ranks", "assert_lst_len_same_as_other_ranks")  # checks among ranks


def import_engine() -> None:
    """Import DeepSpeed and what the dry run needs: seven seconds, so once, before the fork."""
    import deepspeed  # noqa: F401
    import torch._dynamo  # noqa: F401 - imported later, inside zero.Init, it fails with a signature mismatch
    import transformers  # noqa: F401
    from trl import SFTTrainer  # noqa: F401


def stand_in_devices(ranks: int, on_gpu: bool, tracker: "DeviceHostTracker") -> None:
    """For the rest of this process: 'meta' is the device, 'cpu' the host, other ranks and CPUAdam's kernel are fake."""
    import torch.distributed as dist
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=ranks)
    _replace_for_good(on_gpu)
    import deepspeed

    deepspeed.get_accelerator().tracker = tracker


def _replace_for_good(on_gpu: bool) -> None:
    import cpuinfo
    import deepspeed
    import deepspeed.comm.torch  # noqa: F401
    import transformers.modeling_utils
    from deepspeed.accelerator import set_accelerator
    from deepspeed.accelerator.cpu_accelerator import CPU_Accelerator
    from deepspeed.ops.adam import cpu_adam
    from deepspeed.runtime.zero import (
        linear,
        partition_parameters,
        partitioned_param_coordinator,
        stage_1_and_2,
        utils,
    )
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
    from trl.kernels import chunked_logprob

    real, autocast = CPU_Accelerator(), torch.is_autocast_enabled
    set_accelerator(_fake_accelerator(CPU_Accelerator))
    patches: list[tuple[object, str, object]] = [
        # It would call a compiler. By its full name: in `deepspeed.comm` the name `torch` is torch itself.
        (sys.modules["deepspeed.comm.torch"], "build_shm_op", nothing),
        (cpuinfo, "get_cpu_info", dict),  # more than a second, for the name of the processor
        (cpu_adam, "CPUAdamBuilder", NoKernel),
        (linear, "get_accelerator", lambda: real),
        (stage_1_and_2.DeepSpeedZeroOptimizer, "has_overflow", lambda *_args, **_kwargs: False),
        *((utils, name, nothing) for name in AGREEMENT),
        (partition_parameters, "zero_wrapper_for_fp_tensor_constructor", _in_dtype),
        (partitioned_param_coordinator, AGREEMENT[0], nothing),
        (transformers.modeling_utils, "get_torch_context_manager_or_global_device", lambda: torch.device("meta")),
        (torch, "is_autocast_enabled", lambda device="cpu": device != "meta" and autocast(device)),
        # On a processor TRL folds the logits in PyTorch, with temporaries of their own; on CUDA in a kernel.
        *((chunked_logprob, name, nothing) for name in KERNELS if on_gpu),
    ]
    for owner, name, value in patches:
        getattr(owner, name)  # a library that has renamed it would go on unpatched
        setattr(owner, name, value)
    ALL_MASK_ATTENTION_FUNCTIONS.register("sdpa", nothing)
    ALL_ATTENTION_FUNCTIONS.register("sdpa", _flash_attention)
    deepspeed.init_distributed("gloo")


def _in_dtype(
    make: Callable[..., torch.Tensor], target_fp_dtype: torch.dtype | None, target_device: torch.device | None
) -> Callable[..., torch.Tensor]:
    """What zero.Init puts in place of torch.tensor and the like. DeepSpeed's own sets `.data`, which a fake tensor of
    torch.tensor refuses; Gemma 3 makes one."""

    def made(*args: object, **kwargs: object) -> torch.Tensor:
        if kwargs.get("device") is None and target_device is not None:
            kwargs["device"] = target_device
        tensor = make(*args, **kwargs)
        return tensor.to(target_fp_dtype) if target_fp_dtype and tensor.is_floating_point() else tensor

    return made


class NoKernel:
    """Stands in for the builder of DeepSpeed's CPUAdam: every operator of it does nothing."""

    def load(self) -> "NoKernel":
        return self

    def __getattr__(self, name: str) -> object:
        return nothing


def _fake_accelerator(base: type) -> object:
    class FakeAccelerator(base):
        """Device memory is 'meta', host memory is 'cpu'; pinning copies into a block of its own."""

        tracker: "DeviceHostTracker"

        def device_name(self, device_index: int | None = None) -> str:
            return "meta"

        current_device_name = current_device = device_name

        def on_accelerator(self, tensor: torch.Tensor) -> bool:
            return tensor.device.type == "meta"

        def pin_memory(self, tensor: torch.Tensor, *_args: object, **_kwargs: object) -> torch.Tensor:
            self.tracker.pinning = True
            try:
                return tensor.clone()
            finally:
                self.tracker.pinning = False

        def is_pinned(self, tensor: torch.Tensor) -> bool:
            return False

        def pin_empty(self, *_args: object, **_kwargs: object) -> torch.Tensor:
            raise NotImplementedError

    return FakeAccelerator()


def _flash_attention(
    _module: object, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, _mask: None, scaling: float | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:  # fmt: skip
    """On 'meta' torch's own choice would be the variant that keeps all scores."""
    out = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, True, scale=scaling)[0]
    return out.transpose(1, 2).contiguous(), None


def keep_shapes_off_the_device(engine: "DeepSpeedEngine") -> None:
    """ZeRO-2 keeps the shapes of its parameters in tensors on 'meta', which here is the device."""
    shapes = engine.optimizer.round_robin_bit16_meta
    shapes[:] = [[torch.empty((), dtype=t.dtype).expand(t.shape) for t in group] for group in shapes]


def largest_group(engine: "DeepSpeedEngine") -> int:
    """Elements of ZeRO-3's largest sub-group; 0 under ZeRO-2."""
    return int(max(getattr(engine.optimizer, "fp16_partitioned_groups_flat_numel", [0])))


def buffers_of(engine: "DeepSpeedEngine") -> Iterator[tuple[str, Iterable[torch.Tensor | None]]]:
    """(category, tensors) of the engine's buffers: weights, gradients, optimizer (master copy and moments)."""
    zero = engine.optimizer
    states = [value for state in zero.optimizer.state.values() for value in state.values()]
    yield "optimizer", [value for value in states if isinstance(value, torch.Tensor)]
    if engine.zero_optimization_stage() < 3:
        yield "weights", zero.bit16_groups_flat
        yield "optimizer", zero.single_partition_of_fp32_groups
        yield "gradients", [p.grad for p in zero.single_partition_of_fp32_groups]
        return
    yield "weights", [p.ds_tensor for p in engine.module.parameters()]
    yield "weights", zero.fp16_partitioned_groups_flat
    yield "weights", [getattr(zero, "lp_param_buffer", None)]
    yield "optimizer", zero.fp32_partitioned_groups_flat
    yield "gradients", [p.grad for p in zero.fp32_partitioned_groups_flat]
    yield "gradients", [zero.grad_partitions_flat_buffer]
