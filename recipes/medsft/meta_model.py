"""The model of a training step on meta, without weights: its class, NF4 layers, checkpointing, TRL's loss, adapters."""

import copy
from typing import Any

import torch

from medsft import traced_nf4
from medsft.cli import UserError
from medsft.model import cast_trained
from medsft.training_step import Step


def build(config: Any, step: Step, layers: int, peft_config: Any = None) -> Any:
    """The model on meta as TRL hands it to the trainer: quantized, checkpointed, with its loss and its adapters."""
    from trl.trainer.utils import add_fused_lm_head

    model = empty_model(shortened(config, layers), step.dtype, step.attention)
    model.config.use_cache = False
    if step.method == "qlora":
        traced_nf4.quantize(model, step.double_quant)
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


def empty_model(config: Any, dtype: str, attention: str = "sdpa") -> Any:
    """The causal language model of `config` on meta. Raises UserError where transformers has none."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING
    from transformers.initialization import no_init_weights

    try:
        network: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
        config._attn_implementation = attention
        before = torch.get_default_dtype()
        torch.set_default_dtype(getattr(torch, dtype))
        try:
            with torch.device("meta"), no_init_weights():
                # the class itself: AutoModel would shard it where DeepSpeed ZeRO-3 is in force
                model = network(config)
            model.tie_weights()
            return model
        finally:
            torch.set_default_dtype(before)
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"no causal language model for '{config.model_type}': {reason}") from error
