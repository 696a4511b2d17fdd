"""What decides the memory of a training step, in the words of SFTConfig and ModelConfig. Imports nothing heavy."""

from dataclasses import dataclass
from typing import Any

SHARED = ("checkpointing", "attention", "packing", "padded", "lora_r", "lora_targets", "lora_dropout", "adapter_dtype",
          "double_quant")  # fmt: skip
IN_FLOAT32 = {"dtype": "float32", "autocast": False}


@dataclass(frozen=True)
class Step:
    """One micro-batch of `batch` rows of `length` tokens.

    `padded`: rows of unequal length, so that an attention mask is built. `own_loss`: the model's own loss, over
    all logits in a plain loop (`outputs = model(...)`), instead of the trainer's. `on_gpu`: as on CUDA (rounded blocks,
    TRL's Triton kernels of the loss, foreach optimizers), else as on a processor (`answer_loss`, `lora_product`).
    """

    method: str = "full"  # full, lora or qlora
    dtype: str = "bfloat16"
    batch: int = 4
    length: int = 512
    optimizer: str = "adamw_torch_fused"
    checkpointing: bool = True
    reentrant: bool = False
    autocast: bool = True
    attention: str = "sdpa"
    packing: bool = False
    padded: bool = True
    own_loss: bool = False
    on_gpu: bool = True
    lora_r: int = 16
    lora_targets: tuple[str, ...] = ("all-linear",)
    lora_dropout: float = 0.0
    adapter_dtype: str = "float32"
    double_quant: bool = True


def of_recipe(study: Any, config: Any, model_args: Any) -> dict[str, Any]:
    """The fields of `Step` that a recipe (its StudyArguments, SFTConfig and ModelConfig) decides, but for batch and
    length."""
    flat = bool(config.packing or config.padding_free)
    attention = model_args.attn_implementation or "sdpa"
    flash = attention not in ("sdpa", "eager")
    kwargs = config.activation_checkpointing_kwargs or config.gradient_checkpointing_kwargs or {}
    targets = model_args.lora_target_modules or ["all-linear"]
    return {
        "dtype": model_args.dtype or "float32",
        "optimizer": str(getattr(config.optim, "value", config.optim)),
        "checkpointing": bool(config.activation_checkpointing or config.gradient_checkpointing),
        "reentrant": bool(kwargs.get("use_reentrant", False)),
        "autocast": bool(config.bf16),
        "attention": "sdpa" if flash else attention,
        "packing": flat and not flash,
        "padded": not (flat or flash),
        "lora_r": model_args.lora_r,
        "lora_targets": tuple([targets] if isinstance(targets, str) else targets),
        "lora_dropout": model_args.lora_dropout,
        "adapter_dtype": study.adapter_dtype,
        "double_quant": bool(model_args.use_bnb_nested_quant),
    }


def shared(settings: dict[str, Any]) -> dict[str, Any]:
    """Those of a recipe's settings that hold for every other way of training too."""
    alike = (*SHARED, *IN_FLOAT32) if settings.items() >= IN_FLOAT32.items() else SHARED  # nothing is in bfloat16 then
    return {name: value for name, value in settings.items() if name in alike}
