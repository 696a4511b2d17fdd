"""NF4 layers on fake tensors, laid out as bitsandbytes 0.50 stores them: two weights a byte and block-wise scales."""

from typing import TYPE_CHECKING, cast

import torch
from transformers.pytorch_utils import Conv1D

from medsft.memory.trace.library_patches import without_avx512

if TYPE_CHECKING:
    import bitsandbytes
    from transformers import PreTrainedModel

BLOCK, SCALE_BLOCK = 64, 256  # weights that share a scale; scales that share a scale under double quantization


def quantize(model: "PreTrainedModel", double_quant: bool) -> None:
    """Replace the linear layers of a model on meta, except the output head, by empty 4-bit ones; before PEFT.

    As transformers does: GPT-2's Conv1D too, whose weight is transposed.
    """
    head = model.get_output_embeddings()
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if (type(child) is torch.nn.Linear or isinstance(child, Conv1D)) and child is not head:
                setattr(module, name, _packed(child, double_quant))
    model.is_loaded_in_4bit = True  # type: ignore[assignment]
    model.quantization_method = "bitsandbytes"  # type: ignore[assignment]


def materialize(model: torch.nn.Module) -> list[torch.Tensor]:
    """Give the 4-bit layers storages of the fake mode in force; returns the tensors of their quantization states."""
    from bitsandbytes.functional import QuantState

    states: list[torch.Tensor] = []
    for module in model.modules():
        if not hasattr(module, "original_shape"):
            continue
        layer = cast("bitsandbytes.nn.Linear4bit", module)
        shape = cast(torch.Size, module.original_shape)
        scales = -(-shape.numel() // BLOCK)
        inner, offset = None, None
        if cast("bitsandbytes.nn.Params4bit", layer.weight).compress_statistics:
            inner = QuantState(
                absmax=torch.empty(-(-scales // SCALE_BLOCK), dtype=torch.float32, device="cpu"),
                code=torch.empty(256, dtype=torch.float32, device="cpu"),
                blocksize=SCALE_BLOCK,
                dtype=torch.float32,
            )
            offset = torch.empty((), dtype=torch.float32, device="cpu")
            states += [inner.absmax, inner.code, offset]
        state = QuantState(
            absmax=torch.empty(scales, dtype=torch.uint8 if inner else torch.float32, device="cpu"),
            shape=shape,
            dtype=torch.bfloat16,
            blocksize=BLOCK,
            code=torch.empty(16, dtype=torch.float32, device="cpu"),
            quant_type="nf4",
            offset=offset,
            state2=inner,
        )
        states += [state.absmax, state.code]
        # bitsandbytes' own Params4bit cannot wrap a fake tensor
        packed = torch.empty((shape.numel() + 1) // 2, 1, dtype=torch.uint8, device="cpu")
        layer.weight = torch.nn.Parameter(packed, requires_grad=False)
        layer.weight.quant_state = layer.quant_state = state  # type: ignore[attr-defined]
    return states


def _packed(linear: torch.nn.Linear | Conv1D, double_quant: bool) -> "bitsandbytes.nn.Linear4bit":
    import bitsandbytes

    shape = linear.weight.shape if isinstance(linear, torch.nn.Linear) else linear.weight.shape[::-1]
    packed = bitsandbytes.nn.Linear4bit(
        shape[1],
        shape[0],
        bias=linear.bias is not None,
        compute_dtype=torch.bfloat16,
        quant_type="nf4",
        compress_statistics=double_quant,
        device="meta",
    )
    if packed.bias is not None:
        packed.bias = torch.nn.Parameter(packed.bias.to(linear.weight.dtype))
    packed.requires_grad_(False)
    packed.original_shape = shape  # type: ignore[assignment]
    without_avx512(packed)
    return packed
