"""What cannot work is refused before a weight is loaded, with the way out. `check_machine` runs even before torch."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from medsft.arguments import StudyArguments
from medsft.config import config_path, is_on, peek, read_config
from medsft.errors import DoesNotFit, UserError
from medsft.hardware.cgroups import host_memory
from medsft.hardware.specs import machine
from medsft.hub import hub_reachable
from medsft.memory.strategies import STRATEGIES, check_options
from medsft.records import Memory

if TYPE_CHECKING:
    from medsft.training.micro_batch import Run

WORKS_HERE = "what works on this machine: make demo"
TO_PLAN = 1_200_000_000  # bytes: torch, TRL and the first trace of a step, measured in a control group of its own
OFFLOADABLE = {"adamw_torch", "adamw_torch_fused"}


def check_machine(default_config: Path) -> None:
    """Raise UserError or DoesNotFit within seconds where the model, the data or the device cannot be had here."""
    if (free := host_memory()[1]) < TO_PLAN:  # else the kernel ends it without a word
        raise DoesNotFit(
            f"{free / 1e9:.1f} GB of host memory are free, and libraries and plan alone take {TO_PLAN / 1e9} GB; "
            "end other programs, or raise the container's limit"
        )
    name = str(peek("model_name_or_path", "", default_config))
    gpus, on_cpu = machine(".").gpus, _on_cpu(default_config)
    if gpus > 1 and not on_cpu and "LOCAL_RANK" not in os.environ:
        raise UserError(
            f"{gpus} GPUs are visible and no launcher was used; start with: accelerate launch --num_processes {gpus} "
            "recipes/..., or choose one with CUDA_VISIBLE_DEVICES=0"
        )
    no_gpu = not on_cpu and gpus == 0
    from_hub = [name] if not (_is_local(name) or _in_cache(name)) else []
    data = _unprepared_data(default_config)
    if data and not (data == "sample" or Path(data).exists()):
        from_hub.append(data)
    missing = ["an NVIDIA GPU (nvidia-smi finds none)"] if no_gpu else []
    if from_hub and not hub_reachable():
        missing.append(f"{' and '.join(from_hub)} (not on this machine, and the hub cannot be reached)")
    if not missing:
        return
    message = f"{name or 'this recipe'} needs {'; '.join(missing)}; {WORKS_HERE}"
    raise DoesNotFit(message) if no_gpu else UserError(message)


def check_training(study: StudyArguments, config: Any, model_args: Any) -> None:
    """Refuse what every arm must not do. Raises UserError."""
    if config.trust_remote_code:
        raise UserError("trust_remote_code runs a stranger's code beside patients' words; remove it")
    if config.push_to_hub and not config.hub_private_repo:
        raise UserError("push_to_hub would publish the model; add --hub_private_repo true")
    if model_args.dtype not in ("bfloat16", "float32", "float16"):
        raise UserError(f"dtype '{model_args.dtype}': name it, bfloat16 or float32; 'auto' would differ between arms")
    if study.early_stopping_patience is not None and not config.load_best_model_at_end:
        raise UserError("early_stopping_patience needs load_best_model_at_end: true, or the last weights are kept")
    if not study.end_of_turn_loss and (config.packing or config.padding_free):
        raise UserError("end_of_turn_loss: false works on padded rows; remove packing and padding_free")
    if _offloads_optimizer(config) and str(config.optim.value) not in OFFLOADABLE:
        raise UserError(
            f"optim {config.optim.value} under DeepSpeed offload silently becomes another optimizer (L2 Adam); "
            "set optim: adamw_torch"
        )
    from transformers.integrations import get_available_reporting_integrations

    absent = [tracker for tracker in config.report_to if tracker not in get_available_reporting_integrations()]
    if absent:
        raise UserError(
            f"report_to {absent[0]}: it is not installed (.venv/bin/python -m pip install {absent[0]}), or not known; "
            "history.csv and train.json are written without it"
        )
    if config.max_length is None and not config.packing and not config.padding_free:
        raise UserError("max_length is not set: give the number of tokens the split was prepared for")


def check_lora(study: StudyArguments, config: Any, model_args: Any) -> None:
    """Refuse combinations that would train something else than LoRA or QLoRA. Raises UserError."""
    check_training(study, config, model_args)
    study.strategy = study.strategy or "lora"
    if not model_args.use_peft:
        raise UserError("sft_lora.py trains adapters; set use_peft: true, or run sft_full.py")
    check_options(study.strategy, study, config, model_args)
    check_launch(study.strategy, config)
    if study.adapter_dtype not in ("float32", "bfloat16"):
        raise UserError(f"adapter_dtype '{study.adapter_dtype}': use float32 or bfloat16")
    targets = model_args.lora_target_modules or []
    if "lm_head" in targets:
        raise UserError("LoRA on lm_head is refused by TRL's fused loss; use lora_modules_to_save: [lm_head] instead")
    if model_args.load_in_4bit and _zero_stage(config) == 3:
        raise UserError("QLoRA under ZeRO-3 loads whole 4-bit weights in each rank; use multi_gpu.yaml or zero2.yaml")


def check_full(study: StudyArguments, config: Any, model_args: Any) -> None:
    """Refuse combinations that would not be full fine-tuning with the optimizer asked for. Raises UserError."""
    check_training(study, config, model_args)
    if model_args.use_peft or model_args.load_in_4bit or model_args.load_in_8bit:
        raise UserError("sft_full.py trains every weight; adapters and quantized weights belong to sft_lora.py")
    study.strategy = study.strategy or "full"
    check_options(study.strategy, study, config, model_args)
    check_launch(study.strategy, config)


def check_memory(run: "Run", saves: bool = True) -> Memory:
    """Predicted peak bytes of this run, and those of the process before it. Raises DoesNotFit, naming what would fit,
    where they exceed what is free now.
    """
    from medsft.memory import calibration, planner
    from medsft.models import loading, parameter_counts

    batch = run.config.per_device_train_batch_size
    predicted = run.predicted(batch, run.checkpointing)
    if not saves and _zero_stage(run.config) == 3:  # a save gathers all weights in 16 bits on the host
        predicted["host_bytes"] -= 2 * parameter_counts.count_parameters(loading.load_config(run.base_model))
    here, process = machine(run.config.output_dir or "."), psutil.Process().memory_info().rss
    if not here.gpus and run.config.world_size == 1 and not _deepspeed(run.config):  # all is imported: the plan guesses
        predicted["host_bytes"] += process - calibration.of_machine(here, batch).process_bytes
    planner.check_fits(predicted, here, run.reserve_bytes, lambda: run.others(batch))
    return {**predicted, "process_bytes": process}


def check_launch(name: str, config: Any) -> None:
    """Raise UserError where the launcher shards or offloads otherwise than the strategy `name` says."""
    strategy = STRATEGIES[name]
    wanted = strategy.engine, strategy.optimizer, strategy.parameters
    found = _engine(config)
    if found == wanted or not (strategy.trains_all or found[0] == "fsdp2"):
        return
    said = f"engine {found[0] or 'none'}, optimizer on {found[1]}, parameters on {found[2]}".replace(
        "on none", "in place"
    )
    launch = f"accelerate launch --config_file accelerate_configs/{strategy.config or 'single_gpu.yaml'} ..."
    same = [n for n, s in STRATEGIES.items() if s.trains_all and (s.engine, s.optimizer, s.parameters) == found]
    other = f", or name what this launch does: --strategy {' or '.join(same)}" if same else ""
    raise UserError(f"strategy {name} is not what this launch does ({said}); use {launch}{other}")


def _engine(config: Any) -> tuple[str, str, str]:
    """(engine, place of the optimizer's states, place of the parameters) of this launch, as `Strategy` names them."""
    zero = _deepspeed(config).get("zero_optimization", {})
    if zero.get("stage"):
        places = [(zero.get(key) or {}).get("device", "none") for key in ("offload_optimizer", "offload_param")]
        return f"zero{zero['stage']}", places[0], places[1]
    if os.environ.get("ACCELERATE_USE_FSDP", "").lower() != "true" and not config.fsdp:
        return "", "none", "none"
    # accelerate's launcher tells its children by environment; fsdp_config then holds None (transformers 5.23)
    named = config.fsdp_config.get("offload_params") if isinstance(config.fsdp_config, dict) else None
    offloads = named or os.environ.get("FSDP_OFFLOAD_PARAMS", "").lower() == "true"
    return ("fsdp2", "cpu", "cpu") if offloads else ("fsdp2", "none", "none")


def _unprepared_data(default_config: Path) -> str:
    """What the split of this study would be prepared from; '' where it is prepared already."""
    study = Path(str(peek("study_dir", "runs/mistral_7b", default_config)))
    if (study / "data" / "data_report.json").exists():
        return ""
    beside = Path(config_path(default_config)).parent / "data.yaml"
    return str(read_config(["--config", str(beside)]).get("data", "sample")) if beside.exists() else ""


def _on_cpu(default_config: Path) -> bool:
    return is_on("use_cpu", default_config) or os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"


def _is_local(name: str) -> bool:
    return name.startswith("embedded/") or Path(name).expanduser().is_dir()


def _in_cache(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, "config.json"), str)


def _deepspeed(config: Any) -> dict[str, Any]:
    """The DeepSpeed configuration in force: from the recipe, or from `accelerate launch` through its plugin."""
    plugin = config.deepspeed_plugin
    return plugin.deepspeed_config if plugin is not None else {}


def _zero_stage(config: Any) -> int:
    return int(_deepspeed(config).get("zero_optimization", {}).get("stage", 0))


def _offloads_optimizer(config: Any) -> bool:
    place = _deepspeed(config).get("zero_optimization", {}).get("offload_optimizer", {}) or {}
    return place.get("device", "none") != "none"
