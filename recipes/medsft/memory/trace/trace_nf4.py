"""NF4 layers on fake tensors, laid out as bitsandbytes 0.50 stores them: two weights a byte and block-wise scales."""

from typing import Any

import torch

BLOCK, SCALE_BLOCK = 64, 256  # weights that share a scale; scales that share a scale under double quantization


def quantize(model: torch.nn.Module, double_quant: bool) -> None:
    """Replace the linear layers of a model on meta, except the output head, by empty 4-bit ones; before PEFT."""
    import bitsandbytes as bnb

    whole: Any = model
    head = whole.get_output_embeddings()
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is not torch.nn.Linear or child is head:
                continue
            packed: Any = bnb.nn.Linear4bit(
                child.in_features,
                child.out_features,
                bias=child.bias is not None,
                compute_dtype=torch.bfloat16,
                quant_type="nf4",
                compress_statistics=double_quant,
                device="meta",
            )
            if packed.bias is not None:
                packed.bias = torch.nn.Parameter(packed.bias.to(child.weight.dtype))
            packed.requires_grad_(False)
            packed.original_shape = child.weight.shape
            packed.compute_type_is_set = True  # reads a value of the first input otherwise
            packed.support_avx512bf16_for_cpu = False
            setattr(module, name, packed)
    whole.is_loaded_in_4bit = True
    whole.quantization_method = "bitsandbytes"


def materialize(model: torch.nn.Module) -> list[torch.Tensor]:
    """Give the 4-bit layers storages of the fake mode in force; returns the tensors of their quantization states."""
    from bitsandbytes.functional import QuantState

    states = []
    layers: Any = model.modules()
    for module in layers:
        if not hasattr(module, "original_shape"):
            continue
        shape: Any = module.original_shape
        kind: Any = {"dtype": torch.float32, "device": "cpu"}
        scales = -(-shape.numel() // BLOCK)
        nested: dict[str, Any] = {}
        if module.weight.compress_statistics:
            inner = QuantState(
                absmax=torch.empty(-(-scales // SCALE_BLOCK), **kind),
                code=torch.empty(256, **kind),
                blocksize=SCALE_BLOCK,
                dtype=torch.float32,
            )
            nested = {"offset": torch.empty((), **kind), "state2": inner}
            states += [inner.absmax, inner.code, nested["offset"]]
        state = QuantState(
            absmax=torch.empty(scales, dtype=torch.uint8 if nested else torch.float32, device="cpu"),
            shape=shape,
            dtype=torch.bfloat16,
            blocksize=BLOCK,
            code=torch.empty(16, **kind),
            quant_type="nf4",
            **nested,
        )
        states += [state.absmax, state.code]
        # bitsandbytes' own Params4bit cannot wrap a fake tensor
        weight: Any = torch.nn.Parameter(
            torch.empty((shape.numel() + 1) // 2, 1, dtype=torch.uint8, device="cpu"), requires_grad=False
        )
        weight.quant_state = module.quant_state = state
        module._parameters["weight"] = weight
    return states
