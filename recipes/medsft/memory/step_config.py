"""What decides the memory of a training step, in the words of SFTConfig and ModelConfig. Imports nothing heavy."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NotRequired, TypedDict, cast

from medsft.records import Json

if TYPE_CHECKING:
    from trl import ModelConfig, SFTConfig

    from medsft.arguments import StudyArguments

SHARED = ("checkpointing", "attention", "packing", "padded", "lora_r", "lora_targets", "lora_parameters",
          "lora_dropout", "saved_modules", "dora", "adapter_dtype", "double_quant", "accumulates")  # fmt: skip


@dataclass(frozen=True)
class StepConfig:
    """A step over micro-batches of `batch` rows of `length` tokens.

    `accumulates`: over more than one, so that the gradients of the first are there while the second is computed.
    `padded`: rows of unequal length, so that an attention mask is built. `own_loss`: the model's own loss, over all
    logits in a plain loop (`outputs = model(...)`), instead of the trainer's. `on_gpu`: as on CUDA (rounded blocks,
    TRL's Triton kernels of the loss, foreach optimizers), else as on a processor (`answer_loss`, `lora_linear`).
    """

    method: str = "full"  # full, lora or qlora
    dtype: str = "bfloat16"
    batch: int = 4
    length: int = 512
    optimizer: str = "adamw_torch_fused"
    in_backward: bool = False  # each weight is updated as soon as its gradient is there
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
    lora_parameters: tuple[str, ...] = ()  # experts in one tensor, to which adapters are added
    lora_dropout: float = 0.0
    saved_modules: tuple[str, ...] = ()  # trained whole beside the adapters
    dora: bool = False
    adapter_dtype: str = "float32"
    double_quant: bool = True
    accumulates: bool = False


class StepSettings(TypedDict, total=False):
    """Fields of `StepConfig` that a recipe or a strategy decides."""

    method: str
    dtype: str
    optimizer: str
    in_backward: bool
    checkpointing: bool
    reentrant: bool
    autocast: bool
    attention: str
    packing: bool
    padded: bool
    lora_r: int
    lora_targets: tuple[str, ...]
    lora_parameters: tuple[str, ...]
    lora_dropout: float
    saved_modules: tuple[str, ...]
    dora: bool
    adapter_dtype: str
    double_quant: bool
    accumulates: bool


class EngineConfig(TypedDict):
    """One dry run of DeepSpeed's engine.

    `config`: of the model, as transformers' dictionary. `stage` of ZeRO: 2 or 3. `zero`: further settings (sizes of
    buckets). `optimizer` and `parameters`: where they live, 'cpu' or 'none'. `layers`: how many compute.
    """

    config: NotRequired[Json]
    stage: int
    device: str
    zero: dict[str, int]
    ranks: int
    optimizer: str
    parameters: str
    bf16_states: bool
    batch: int
    length: int
    checkpointing: bool
    on_gpu: bool
    layers: int


class EnginePeaks(TypedDict):
    """What the dry run found, in bytes: peaks of `device` and `host` by category. `largest_group` is in elements."""

    device: dict[str, int]
    host: dict[str, int]
    pinned: int
    pinned_rounding: int
    largest_group: int


FLASH = "flash_adamw"  # no name of the Trainer's
IN_FLOAT32: StepSettings = {"dtype": "float32", "autocast": False}


def of_recipe(study: "StudyArguments", config: "SFTConfig", model_args: "ModelConfig") -> StepSettings:
    """The settings that a recipe decides. The three may be one object that holds the fields of all."""
    flat = bool(config.packing or config.padding_free)
    attention = model_args.attn_implementation or "sdpa"
    flash = attention not in ("sdpa", "eager")
    kwargs = config.activation_checkpointing_kwargs or config.gradient_checkpointing_kwargs
    return {
        "dtype": model_args.dtype or "float32",
        "optimizer": FLASH if study.flash_adamw else str(getattr(config.optim, "value", config.optim)),
        "checkpointing": bool(config.activation_checkpointing or config.gradient_checkpointing),
        "reentrant": isinstance(kwargs, dict) and bool(kwargs.get("use_reentrant", False)),
        "autocast": bool(config.bf16),
        "attention": "sdpa" if flash else attention,
        "packing": flat and not flash,
        "padded": not (flat or flash),
        "lora_r": model_args.lora_r,
        "lora_targets": _names(model_args.lora_target_modules) or ("all-linear",),
        "lora_parameters": _names(model_args.lora_target_parameters),
        "lora_dropout": model_args.lora_dropout,
        "saved_modules": _names(model_args.lora_modules_to_save),
        "dora": bool(model_args.use_dora),
        "adapter_dtype": study.adapter_dtype,
        "double_quant": bool(model_args.use_bnb_nested_quant),
        "accumulates": config.gradient_accumulation_steps > 1
        or (study.rows_per_step or 0) > config.per_device_train_batch_size * getattr(config, "world_size", 1),
    }


def _names(given: str | list[str] | None) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given or ())


def shared(settings: StepSettings) -> StepSettings:
    """Those of a recipe's settings that hold for every other strategy too."""
    # in float32 nothing is in bfloat16, whatever the strategy
    kept = (*SHARED, *IN_FLOAT32) if settings.items() >= IN_FLOAT32.items() else SHARED
    return cast(StepSettings, {name: value for name, value in settings.items() if name in kept})
