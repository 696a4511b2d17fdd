"""What wraps a model, by the object; and that FSDP2 does not round the loss (launched: training/test_distributed)."""

from types import SimpleNamespace
from typing import Any

import torch

from medsft.distributed import wrapping


def accelerator_with(plugin: Any) -> Any:
    return SimpleNamespace(state=SimpleNamespace(fsdp_plugin=plugin))


def test_the_wrapper_is_named_after_the_object() -> None:
    network = torch.nn.Linear(2, 2)
    assert wrapping.wrapped_by(network) == "none"
    assert wrapping.wrapped_by(torch.nn.DataParallel(network)) == "DataParallel"
    assert wrapping.offload(network, accelerator_with(None)) == {"optimizer": "none", "parameters": "none"}


def test_fsdp2_computes_in_bf16_and_hands_the_loss_on_as_it_is() -> None:
    from accelerate import FullyShardedDataParallelPlugin

    plugin = FullyShardedDataParallelPlugin(fsdp_version=2, cpu_offload=True)
    plugin.set_mixed_precision("bf16")
    before = plugin.mixed_precision_policy
    assert before.output_dtype == torch.bfloat16  # else accelerate has mended it, and this is not needed
    wrapping.keep_loss_in_float32(accelerator_with(plugin))
    policy = plugin.mixed_precision_policy
    assert (policy.param_dtype, policy.reduce_dtype, policy.output_dtype) == (torch.bfloat16, torch.float32, None)
    assert wrapping.offload(torch.nn.Linear(2, 2), accelerator_with(plugin))["optimizer"] == "cpu"
    wrapping.keep_loss_in_float32(accelerator_with(None))  # no FSDP
