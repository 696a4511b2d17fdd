"""The model of a training step on meta, without weights: its class, NF4 layers, checkpointing, TRL's loss, adapters."""

import copy
import re
from typing import TYPE_CHECKING, cast

import torch

from medsft.memory.step_config import StepConfig
from medsft.memory.trace import nf4
from medsft.models.loading import cast_trained
from medsft.models.meta import empty_model

if TYPE_CHECKING:
    from peft import LoraConfig, PeftConfig
    from transformers import PreTrainedConfig, PreTrainedModel


def build(
    config: "PreTrainedConfig", step: StepConfig, layers: int, peft_config: "PeftConfig | None" = None
) -> "PreTrainedModel":
    """The model on meta as TRL hands it to the trainer: quantized, checkpointed, with its loss and its adapters."""
    from trl.trainer.utils import add_fused_lm_head

    model: PreTrainedModel = empty_model(shortened(config, layers), step.dtype, step.attention)
    model.config.use_cache = False
    if step.method == "qlora":
        nf4.quantize(model, step.double_quant)
    if step.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": step.reentrant})
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))  # as SFTTrainer does
    if step.method != "full":
        from peft import get_peft_model

        if step.checkpointing:
            model.enable_input_require_grads()
        with torch.device("meta"):
            model = cast("PreTrainedModel", get_peft_model(model, peft_config or lora_config(step)))
        if peft_config is None:  # else as PEFT itself casts
            cast_trained(model, step.adapter_dtype)
    return model.train()


def materialize(model: torch.nn.Module) -> None:
    """Replace meta parameters and buffers by ones of the fake mode in force, in place; tied ones stay tied.

    `Module.to_empty` would swap tensors, which fake tensors refuse.
    """
    made: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # the old one is kept alive, or its id would be used again
    for module in model.modules():
        parameters = module.named_parameters(recurse=False, remove_duplicate=False)
        for name, old in [*parameters, *module.named_buffers(recurse=False, remove_duplicate=False)]:
            if old.device.type != "meta":
                continue
            if id(old) not in made:
                new = torch.empty(old.shape, dtype=old.dtype, device="cpu")
                if isinstance(old, torch.nn.Parameter):
                    new = torch.nn.Parameter(new, requires_grad=old.requires_grad)
                made[id(old)] = (new, old)
            setattr(module, name, made[id(old)][0])


def lora_config(step: StepConfig) -> "LoraConfig":
    """The adapters that `step` describes, as TRL asks PEFT for them."""
    from peft import LoraConfig

    one = step.lora_targets[0]  # a pattern and 'all-linear' are words for PEFT, not names
    targets = one if one == "all-linear" or not re.fullmatch(r"[\w.]+", one) else list(step.lora_targets)
    return LoraConfig(
        r=step.lora_r,
        lora_alpha=2 * step.lora_r,
        lora_dropout=step.lora_dropout,
        target_modules=targets,
        target_parameters=list(step.lora_parameters) or None,
        modules_to_save=list(step.saved_modules) or None,
        use_dora=step.dora,
        task_type="CAUSAL_LM",
    )


def shortened(config: "PreTrainedConfig", layers: int) -> "PreTrainedConfig":
    """The configuration with its first `layers` layers only; lists with one entry a layer are cut too."""
    short = copy.deepcopy(config)
    text = short.get_text_config()
    depth = text.num_hidden_layers
    for name, value in list(vars(text).items()):
        if isinstance(value, list) and len(value) == depth:
            setattr(text, name, value[:layers])
    text.num_hidden_layers = layers
    return short
