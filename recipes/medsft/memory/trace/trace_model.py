"""The model of a training step on meta, without weights: its class, NF4 layers, checkpointing, TRL's loss, adapters."""

import copy
from typing import Any

import torch

from medsft.memory.step_config import Step
from medsft.memory.trace import trace_nf4
from medsft.models.loading import cast_trained
from medsft.models.meta import empty_model


def build(config: Any, step: Step, layers: int, peft_config: Any = None) -> Any:
    """The model on meta as TRL hands it to the trainer: quantized, checkpointed, with its loss and its adapters."""
    from trl.trainer.utils import add_fused_lm_head

    model = empty_model(shortened(config, layers), step.dtype, step.attention)
    model.config.use_cache = False
    if step.method == "qlora":
        trace_nf4.quantize(model, step.double_quant)
    if step.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": step.reentrant})
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))  # as SFTTrainer does
    if step.method != "full":
        from peft import get_peft_model

        if step.checkpointing:
            model.enable_input_require_grads()
        with torch.device("meta"):
            model = get_peft_model(model, peft_config or lora_config(step))
        cast_trained(model, step.adapter_dtype)
    return model.train()


def lora_config(step: Step) -> Any:
    from peft import LoraConfig

    targets = step.lora_targets[0] if step.lora_targets == ("all-linear",) else list(step.lora_targets)
    return LoraConfig(
        r=step.lora_r,
        lora_alpha=2 * step.lora_r,
        lora_dropout=step.lora_dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )


def shortened(config: Any, layers: int) -> Any:
    """The configuration with its first `layers` layers only; lists with one entry a layer are cut too."""
    short = copy.deepcopy(config)
    text = short.get_text_config()
    depth = text.num_hidden_layers
    for name, value in list(vars(text).items()):
        if isinstance(value, list) and len(value) == depth:
            setattr(text, name, value[:layers])
    text.num_hidden_layers = layers
    return short
