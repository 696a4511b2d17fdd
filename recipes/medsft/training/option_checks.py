"""Preflight checks of a run's options and launch, before a weight is loaded."""

import os
import re
from importlib.util import find_spec
from typing import TYPE_CHECKING

from transformers.integrations import get_available_reporting_integrations
from transformers.training_args import OptimizerNames

from medsft.arguments import StudyArguments
from medsft.distributed.deepspeed_config import offload_device, states_on, zero_stage
from medsft.errors import UserError
from medsft.memory.strategies import STRATEGIES, check_options
from medsft.models import flash_adamw, loading, model_checks
from medsft.tokenization.chat_template import PROBE, render, training_template
from medsft.training.setup import dev_answers

if TYPE_CHECKING:
    from trl import ModelConfig, SFTConfig

OFFLOADABLE = {"adamw_torch", "adamw_torch_fused"}


def check_training(study: StudyArguments, config: "SFTConfig", model_args: "ModelConfig") -> None:
    """Check what all arms share: remote code, publishing, dtype, optimizer, trackers, max_length. Raises UserError."""
    if config.trust_remote_code:
        raise UserError("trust_remote_code runs a stranger's code beside patients' words; remove it")
    if config.push_to_hub and not config.hub_private_repo:
        raise UserError("push_to_hub would publish the model; add --hub_private_repo true")
    if model_args.dtype not in ("bfloat16", "float32", "float16"):
        raise UserError(f"dtype '{model_args.dtype}': name it, bfloat16 or float32; 'auto' would differ between arms")
    if study.early_stopping_patience and not config.load_best_model_at_end:
        raise UserError("early_stopping_patience needs load_best_model_at_end: true, or the last weights are kept")
    dev_answers.check(study, config)
    if not study.end_of_turn_loss and (config.packing or config.padding_free):
        raise UserError("end_of_turn_loss: false works on padded rows; remove packing and padding_free")
    if study.truncate_answers and config.padding_free and not config.packing:
        raise UserError("truncate_answers: true works on padded rows; remove padding_free")
    optimizer = OptimizerNames(config.optim).value
    if optimizer.startswith("adamw_torch_") and optimizer.endswith("bit") and find_spec("torchao") is None:
        raise UserError(f"optim {optimizer} is torchao's; install it: .venv/bin/python -m pip install torchao==0.18.0")
    if states_on(config) != "none" and optimizer not in OFFLOADABLE:
        raise UserError(
            f"optim {optimizer} under DeepSpeed offload silently becomes another optimizer (L2 Adam); "
            "set optim: adamw_torch"
        )
    trackers = [config.report_to] if isinstance(config.report_to, str) else config.report_to or []
    absent = [tracker for tracker in trackers if tracker not in get_available_reporting_integrations()]
    if absent:
        raise UserError(
            f"report_to {absent[0]}: it is not installed (.venv/bin/python -m pip install {absent[0]}), or not known; "
            "history.csv and train.json are written without it"
        )
    if config.max_length is None and not config.packing and not config.padding_free:
        raise UserError("max_length is not set: give the number of tokens the split was prepared for")
    if config.fp16 and config.device.type == "cpu":
        raise UserError("fp16: a processor does not train in float16, so it would be ignored; remove it")
    if str(model_args.attn_implementation).startswith("flash_attention") and find_spec("flash_attn") is None:
        raise UserError(
            f"attn_implementation {model_args.attn_implementation}: flash-attn is not installed; "
            "use --attn_implementation sdpa"
        )
    check_model(config, str(model_args.model_name_or_path))


def check_model(config: "SFTConfig", name: str) -> None:
    """Raise UserError where the model cannot be trained or its chat template cannot; reads no weights."""
    architecture = model_checks.check_base(name, config.max_length)
    tokenizer = loading.load_tokenizer(name)
    template = training_template(tokenizer, config.chat_template_path)
    token = max(render(tokenizer, PROBE, template).input_ids)
    model_checks.check_vocabulary(name, architecture, token, str(tokenizer.decode([token])))


def check_deepspeed(config: "SFTConfig") -> None:
    """Raise UserError where the launch's DeepSpeed settings name another value than the recipe's; 'auto' follows it.

    To be asked once the rows of a step are shared out among the processes.
    """
    if config.deepspeed:
        raise UserError(
            "--deepspeed fixes the batch before it is shared out; name the file as deepspeed_config_file under "
            "deepspeed_config in a file for accelerate launch --config_file, as accelerate_configs/zero3.yaml is one"
        )
    settings = {} if config.deepspeed_plugin is None else config.deepspeed_plugin.deepspeed_config
    rows = config.per_device_train_batch_size
    wanted = {
        "gradient_accumulation_steps": ("gradient_accumulation_steps", config.gradient_accumulation_steps),
        "gradient_clipping": ("max_grad_norm", config.max_grad_norm),
        "train_micro_batch_size_per_gpu": ("per_device_train_batch_size", rows),
        "train_batch_size": ("rows per step", rows * config.gradient_accumulation_steps * config.world_size),
    }
    for key, (option, value) in wanted.items():
        found = settings.get(key, "auto")
        if found not in ("auto", None, value):
            raise UserError(
                f"DeepSpeed's {key} is {found} in the launch's configuration, and {option} is {value} in the recipe; "
                f"remove {key} there, or set it to auto"
            )


def check_in_backward(study: StudyArguments, config: "SFTConfig") -> None:
    """Raise UserError where weights cannot be updated during the backward pass; to be asked as `check_deepspeed`."""
    if not study.optimizer_in_backward:
        return
    rows = config.per_device_train_batch_size * config.gradient_accumulation_steps
    if config.world_size > 1:
        raise UserError("optimizer_in_backward works in one process: gradients of several are summed after it")
    if config.max_grad_norm:
        raise UserError(
            "optimizer_in_backward cannot clip: the norm of all gradients is never known; --max_grad_norm 0"
        )
    if config.gradient_accumulation_steps > 1 or study.auto_batch:
        raise UserError(
            f"optimizer_in_backward cannot accumulate: --per_device_train_batch_size {rows}, without auto_batch; "
            f"or fewer rows a step for every arm"
        )
    if config.fp16:
        raise UserError("optimizer_in_backward does not scale losses, as fp16 needs; use bf16: true")


def check_flash_adamw(study: StudyArguments, config: "SFTConfig") -> None:
    """Raise UserError where FlashAdamW cannot run or would not be AdamW of whole bf16 weights."""
    if not study.flash_adamw:
        return
    flash_adamw.check()
    if _engine(config)[0]:
        raise UserError("flash_adamw holds all states on one GPU; launch without DeepSpeed and FSDP")
    if study.optimizer_in_backward:
        raise UserError("flash_adamw and optimizer_in_backward are two strategies; leave one out")


def check_lora(study: StudyArguments, config: "SFTConfig", model_args: "ModelConfig") -> None:
    """Raise UserError for combinations that would not train by LoRA or QLoRA; sets the strategy that is not given."""
    check_training(study, config, model_args)
    study.strategy = study.strategy or "lora"
    if not model_args.use_peft:
        raise UserError("sft_lora.py trains adapters; set use_peft: true, or run sft_full.py")
    check_options(study.strategy, study, config, model_args)
    check_launch(study.strategy, config)
    if study.adapter_dtype not in ("float32", "bfloat16"):
        raise UserError(f"adapter_dtype '{study.adapter_dtype}': use float32 or bfloat16")
    targets = model_args.lora_target_modules or []
    if isinstance(targets, str) and re.fullmatch(r"[\w.]+", targets) and targets != "all-linear":
        # ModelConfig makes a string of one target, which PEFT reads as a pattern for the whole name of a module
        model_args.lora_target_modules = targets = [targets]
    if "lm_head" in targets:
        raise UserError("LoRA on lm_head is refused by TRL's fused loss; use lora_modules_to_save: [lm_head] instead")
    if targets and targets != "all-linear":
        model_checks.check_targets(loading.load_config(str(model_args.model_name_or_path)), targets)
    if model_args.load_in_4bit and zero_stage(config) == 3:
        raise UserError("QLoRA under ZeRO-3 loads whole 4-bit weights in each rank; use multi_gpu.yaml or zero2.yaml")


def check_full(study: StudyArguments, config: "SFTConfig", model_args: "ModelConfig") -> None:
    """Raise UserError for combinations that would not be full fine-tuning; sets the strategy that is not given."""
    check_training(study, config, model_args)
    if model_args.use_peft or model_args.load_in_4bit or model_args.load_in_8bit:
        raise UserError("sft_full.py trains every weight; adapters and quantized weights belong to sft_lora.py")
    study.strategy = study.strategy or "full"
    check_options(study.strategy, study, config, model_args)
    check_launch(study.strategy, config)


def check_launch(name: str, config: "SFTConfig") -> None:
    """Raise UserError where the launcher does not shard and offload as the strategy `name` requires."""
    strategy = STRATEGIES[name]
    wanted = strategy.engine, strategy.optimizer, strategy.parameters
    found = _engine(config)
    if found == wanted or not (strategy.trains_all or found[0] == "fsdp2"):
        return
    launched = f"engine {found[0] or 'none'}, optimizer on {found[1]}, parameters on {found[2]}".replace(
        "on none", "in place"
    )
    launch = f"accelerate launch --config_file accelerate_configs/{strategy.config or 'single_gpu.yaml'} ..."
    same = [n for n, s in STRATEGIES.items() if s.trains_all and (s.engine, s.optimizer, s.parameters) == found]
    other = f", or name what this launch does: --strategy {' or '.join(same)}" if same else ""
    raise UserError(f"strategy {name} is not what this launch does ({launched}); use {launch}{other}")


def _engine(config: "SFTConfig") -> tuple[str, str, str]:
    """(engine, device of the optimizer's states, device of the parameters) of this launch, as `Strategy` names them."""
    if stage := zero_stage(config):
        return f"zero{stage}", offload_device(config, "optimizer"), offload_device(config, "param")
    if os.environ.get("ACCELERATE_USE_FSDP", "").lower() != "true" and not config.fsdp:
        return "", "none", "none"
    # accelerate's launcher sets this in the environment; fsdp_config then holds None (transformers 5.23)
    named = config.fsdp_config.get("offload_params") if isinstance(config.fsdp_config, dict) else None
    offloads = named or os.environ.get("FSDP_OFFLOAD_PARAMS", "").lower() == "true"
    return ("fsdp2", "cpu", "cpu") if offloads else ("fsdp2", "none", "none")
