"""What DeepSpeed's dry run stands in for: the device is 'meta', the host is 'cpu', other ranks and kernels are fake."""

import sys
from typing import Any


def stand_in(ranks: int, on_gpu: bool) -> None:
    """The fake process group and accelerator, and CPUAdam without its kernel. Once a process."""
    import torch
    import torch.distributed as dist
    from torch.testing._internal.distributed.fake_pg import FakeStore

    if dist.is_initialized():
        return
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=ranks)
    import cpuinfo
    import deepspeed
    import deepspeed.comm.torch  # noqa: F401
    import transformers.modeling_utils
    from deepspeed.accelerator import set_accelerator
    from deepspeed.accelerator.cpu_accelerator import CPU_Accelerator
    from deepspeed.ops.adam import cpu_adam
    from deepspeed.runtime.zero import linear, partitioned_param_coordinator, stage_1_and_2, utils
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    class FakeAccelerator(CPU_Accelerator):
        """Device memory is 'meta', host memory is 'cpu'; pinning copies into a block of its own."""

        tracker: Any = None

        def device_name(self, device_index: int | None = None) -> str:
            return "meta"

        current_device_name = current_device = device_name

        def on_accelerator(self, tensor: Any) -> bool:
            return tensor.device.type == "meta"

        def pin_memory(self, tensor: Any, *_args: Any, **_kwargs: Any) -> Any:
            self.tracker.pinning = True
            try:
                return tensor.clone()
            finally:
                self.tracker.pinning = False

        def is_pinned(self, tensor: Any) -> bool:
            return False

        def pin_empty(self, *_args: Any, **_kwargs: Any) -> Any:
            raise NotImplementedError

    class NoKernel:
        def load(self) -> Any:
            return self

        def __getattr__(self, name: str) -> Any:
            return lambda *_args: None

    def flash(
        module: Any, q: Any, k: Any, v: Any, mask: Any, dropout: float = 0.0, scaling: Any = None, **_: Any
    ) -> Any:
        # on 'meta' torch's own choice would be the variant that keeps all scores
        out = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, True, scale=scaling)[0]
        return out.transpose(1, 2).contiguous(), None

    # It would call a compiler. By its full name: in `deepspeed.comm` the name `torch` is torch itself.
    sys.modules["deepspeed.comm.torch"].build_shm_op = lambda: None  # type: ignore[attr-defined]
    cpuinfo.get_cpu_info = dict  # more than a second, for the name of the processor
    real = CPU_Accelerator()
    set_accelerator(FakeAccelerator())
    cpu_adam.CPUAdamBuilder = NoKernel
    linear.get_accelerator = lambda: real
    stage_1_and_2.DeepSpeedZeroOptimizer.has_overflow = lambda *_args, **_kwargs: False
    for module in (partitioned_param_coordinator, utils):
        for name in ("assert_ints_same_as_other_ranks", "assert_lst_len_same_as_other_ranks"):
            if hasattr(module, name):
                setattr(module, name, lambda *_args, **_kwargs: None)
    transformers.modeling_utils.get_torch_context_manager_or_global_device = lambda: torch.device("meta")
    ALL_MASK_ATTENTION_FUNCTIONS.register("sdpa", lambda *_args, **_kwargs: None)
    ALL_ATTENTION_FUNCTIONS.register("sdpa", flash)
    from trl.kernels import chunked_logprob

    autocast = torch.is_autocast_enabled
    torch.is_autocast_enabled = lambda device="cpu": device != "meta" and autocast(device)  # type: ignore
    # On a processor TRL folds the logits in PyTorch, with temporaries of their own; on CUDA in a kernel.
    for name in ("_forward_tile", "_backward_tile", "_addmm_fp32") if on_gpu else ():
        setattr(chunked_logprob, name, lambda *_args, **_kwargs: None)
    deepspeed.init_distributed("gloo")
