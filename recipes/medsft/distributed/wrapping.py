"""What wraps the model of a distributed run: the precision that FSDP2 hands on, and which wrapper it is in the end."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator


def keep_loss_in_float32(accelerator: "Accelerator") -> None:
    """Let FSDP2 compute in bf16 without rounding what it returns or adds up over processes; before it wraps a model.

    accelerate 1.15 makes FSDP2 cast outputs to bf16, and the loss is one: near 10.8 it then moves in steps of 0.06,
    near 1.5 of 0.008, which hides the best checkpoint. Gradients are summed in float32, as DDP sums those of float32
    weights; what goes to the host is float32 either way.
    """
    import dataclasses

    import torch

    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    if plugin is None or plugin.fsdp_version != 2 or plugin.mixed_precision_policy is None:
        return
    plugin.mixed_precision_policy = dataclasses.replace(
        plugin.mixed_precision_policy, reduce_dtype=torch.float32, output_dtype=None
    )


def wrapped_by(network: "torch.nn.Module") -> str:
    """'none', 'DataParallel', 'DistributedDataParallel', 'FSDP2' or 'ZeRO-1' to 'ZeRO-3', by the object itself."""
    from torch.distributed.fsdp import FSDPModule
    from torch.nn.parallel import DataParallel, DistributedDataParallel

    if hasattr(network, "zero_optimization_stage"):  # DeepSpeed's engine
        return f"ZeRO-{network.zero_optimization_stage()}"  # type: ignore[operator]
    if isinstance(network, FSDPModule):
        return "FSDP2"
    return type(network).__name__ if isinstance(network, (DataParallel, DistributedDataParallel)) else "none"


def offload(network: "torch.nn.Module", accelerator: "Accelerator") -> dict[str, str]:
    """Where the wrapper keeps `optimizer` and `parameters` between uses: none (on the device), cpu or nvme."""
    if hasattr(network, "zero_optimization_stage"):
        engine: Any = network
        return {
            "optimizer": _device(engine.zero_offload_optimizer()),
            "parameters": _device(engine.zero_offload_param()),
        }
    from torch.distributed.fsdp import CPUOffloadPolicy

    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    place = "cpu" if plugin is not None and isinstance(plugin.cpu_offload, CPUOffloadPolicy) else "none"
    return {"optimizer": place, "parameters": place}


def _device(offloads: Any) -> str:
    return "none" if offloads is None else str(getattr(offloads.device, "value", offloads.device))
