"""bitsandbytes: 4-bit layers that keep their gradients on processors."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def keep_trainable_layout(network: "torch.nn.Module") -> None:
    """Keep 4-bit layers in the layout that has a backward pass.

    On processors with AVX512-BF16 bitsandbytes 0.50.2 repacks them at the first evaluation for a kernel without one,
    and does not pack them back: training after an evaluation would lose the gradients through these layers.
    """
    for module in network.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
