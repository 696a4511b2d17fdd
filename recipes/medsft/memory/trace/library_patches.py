"""Private names of torch, transformers, TRL, PEFT and bitsandbytes that tracing uses or replaces.

Those of DeepSpeed are in `deepspeed_patches`. tests/memory/test_library_patches.py fails when a library changes one.
"""

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode
from torch.utils._pytree import tree_leaves

if TYPE_CHECKING:
    import bitsandbytes
    from transformers import PreTrainedConfig
    from trl import SFTTrainer


READ_VALUE = torch.ops.aten._local_scalar_dense.default  # what .item() and bool(tensor) call
KERNELS = ("_forward_tile", "_backward_tile", "_addmm_fp32")  # of trl.kernels.chunked_logprob
FUSED_NF4_TOKENS = 1536  # bitsandbytes on CUDA: from here on a 4-bit product unpacks the whole weight first


@contextlib.contextmanager
def replaced(*patches: tuple[object, str, object]) -> Iterator[None]:
    """Within the block, attribute `name` of `owner` is `value`, for each (owner, name, value)."""
    with contextlib.ExitStack() as stack:
        for owner, name, value in patches:
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)
        yield


def nothing(*_args: object, **_kwargs: object) -> None:
    """Stands in for kernels, checks and masks whose result nobody reads."""


# ---- torch ----------------------------------------------------------------------------------------------------------


def fake_tensors() -> FakeTensorMode:
    """Tensors made in this mode have shapes but no storage behind them."""
    return FakeTensorMode(allow_non_fake_inputs=True)


def tensors_in(result: object) -> list[torch.Tensor]:
    """The tensors in what an operator returned."""
    return [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]


# ---- transformers and TRL -------------------------------------------------------------------------------------------


def use_sdpa(config: "PreTrainedConfig") -> None:
    """Models that are made from `config` use torch's scaled_dot_product_attention."""
    config._attn_implementation = "sdpa"


@contextlib.contextmanager
def no_mask_without_padding(attention: str, padded: bool) -> Iterator[None]:
    """Build no mask for rows of equal length: transformers would ask the values, which fake tensors do not have.

    A cached prefix (prefix tuning) makes keys longer than queries; then a mask is needed all the same.
    """
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS as MASKS

    if padded:
        yield
        return
    original = MASKS[attention]

    def mask(*args: object, q_length: int, kv_length: int, **kwargs: object) -> object:
        return None if q_length == kv_length else original(*args, q_length=q_length, kv_length=kv_length, **kwargs)

    MASKS[attention] = mask
    try:
        yield
    finally:
        del MASKS[attention]


@contextlib.contextmanager
def dropout_of_device(on_gpu: bool) -> Iterator[None]:
    """With `on_gpu` dropout keeps a mask of one byte a value, as CUDA's kernel does; a processor's keeps the factors.

    For LoRA in float32 without checkpointing that is 3 bytes a value: 22 of 89 GB for 16 rows of 370 tokens and seven
    adapted modules in each of 32 layers (H200: 67.2 GB measured).
    """

    def fused(x: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
        return torch.native_dropout(x, p, training)[0] if training and p else x

    with replaced((torch.nn.functional, "dropout", fused)) if on_gpu else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def loss_of_one_device(on_gpu: bool) -> Iterator[None]:
    """The loss of TRL on an unsharded head; with `on_gpu` without the temporaries of its CPU code.

    On CUDA Triton kernels fold the logits in place. Inside a run under ZeRO-3 TRL would gather the output head.
    """
    from transformers.integrations import deepspeed
    from trl.kernels import chunked_logprob

    folds = [(chunked_logprob, name, nothing) for name in KERNELS if on_gpu]
    with replaced((deepspeed, "is_deepspeed_zero3_enabled", lambda: False), *folds):
        yield


def stand_in_trainer(model: torch.nn.Module) -> "SFTTrainer":
    """The attributes of SFTTrainer that its compute_loss reads."""
    config: Any = model.config
    accelerator = SimpleNamespace(parallelism_config=None, num_processes=1, gather_for_metrics=lambda x: x)
    stand_in = SimpleNamespace(
        model=model,
        accelerator=accelerator,
        args=SimpleNamespace(loss_type="nll", average_tokens_across_devices=True),
        aux_loss_enabled=getattr(config, "output_router_logits", False),
        router_aux_loss_coef=getattr(config, "router_aux_loss_coef", 0.0),
        compute_loss_func=None,
        label_smoother=None,
        get_tp_size=lambda: 1,
        current_gradient_accumulation_steps=1,
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
        _tp_size=1,
    )
    return cast("SFTTrainer", stand_in)


# ---- PEFT -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def dora_on_nf4() -> Iterator[None]:
    """DoRA reads the weight of a 4-bit layer unpacked; PEFT knows one by its weight's class, which cannot be traced."""
    from bitsandbytes.functional import dequantize_4bit
    from peft.tuners.lora import dora

    original = dora.dequantize_module_weight

    def unpacked(layer: Any) -> torch.Tensor:
        if not hasattr(layer, "original_shape"):
            return original(layer)
        if layer.weight.device.type == "meta":  # not materialized yet
            return torch.empty(layer.original_shape, dtype=torch.bfloat16, device="meta")
        return cast(torch.Tensor, dequantize_4bit(layer.weight.data, layer.quant_state))

    with replaced((dora, "dequantize_module_weight", unpacked)):
        yield


# ---- bitsandbytes ---------------------------------------------------------------------------------------------------


def without_avx512(layer: "bitsandbytes.nn.Linear4bit") -> None:
    """With AVX512 a 4-bit layer packs its weight anew at the first product on a processor, which needs the values."""
    layer.support_avx512bf16_for_cpu = False


def workspace(operator: object, args: tuple[Any, ...]) -> int:
    """Bytes that bitsandbytes' fused 4-bit product unpacks the weight into, which no dispatched operator shows."""
    if "gemm_4bit" not in str(operator) or args[0].numel() // args[0].shape[-1] <= FUSED_NF4_TOKENS:
        return 0
    return int(args[2][0] * args[2][1] * args[0].element_size())
