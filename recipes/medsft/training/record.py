"""train.json: what one arm cost and how its loss went. Written last: an arm is done once it is there."""

import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from medsft.arguments import StudyArguments
from medsft.distributed import wrapping
from medsft.files import write_json
from medsft.memory import calibration
from medsft.models import loading
from medsft.records import Memory, TrainRecord
from medsft.training.callbacks.history import ANSWERED
from medsft.training.callbacks.meter import Meter
from medsft.training.dataset import Data, comparable
from medsft.training.run_folder import ArmFolder
from medsft.training.setup.rows_per_step import rows_per_step
from medsft.training.trainer import RecipeTrainer
from medsft.versions import versions

if TYPE_CHECKING:
    from trl import SFTConfig

KEEP = ("step", "loss", "eval_loss", "learning_rate", "grad_norm")


def record(
    trainer: RecipeTrainer,
    arm: ArmFolder,
    study: StudyArguments,
    data: Data,
    base_model: str,
    predicted: Memory,
    wall: float,
) -> None:
    """Write train.json from the trainer's state and the meters of all processes."""
    meter, args, state = trainer.callback(Meter), trainer.args, trainer.state
    spent = [meter.tokens, meter.answer_tokens, _peak_host_bytes(), round(1000 * meter.joules)]
    spent += [meter.read, meter.written]
    sums = _over_ranks(trainer, spent, "sum")
    reserved, used, allocated = _over_ranks(trainer, _peak_device_bytes(), "max")
    if not trainer.is_world_process_zero():
        return
    history = [{k: row[k] for k in (*KEEP, *ANSWERED) if k in row} for row in state.log_history]
    history = [row for row in history if "loss" in row or "eval_loss" in row]
    evals = [row for row in history if "eval_loss" in row]
    trainable, total = parameter_counts(trainer.model)
    precision = master_precision(trainer.model, args, trainer.uses_flash_adamw)
    seconds = sum(meter.step_seconds)
    peak: Memory = {
        "device_bytes": used,
        "host_bytes": sums[2],
        "reserved_bytes": reserved,
        "allocated_bytes": allocated,
    }
    gaps, warning = calibration.compare(predicted, peak)
    if warning:
        print(f"warning: {warning}", file=sys.stderr)
    written: TrainRecord = {
        "arm": study.arm,
        "base_model": base_model,
        "base_revision": loading.revision(base_model),
        "total_parameters": total,
        "trainable_parameters": trainable,
        "trainable_percent": round(100 * trainable / total, 4),
        "steps": state.global_step,
        "tokens_seen": sums[0],
        "answer_tokens_seen": sums[1],
        "wall_seconds": round(wall, 2),
        "tokens_per_second": round(sums[0] / seconds, 2) if seconds else None,
        "step_seconds": meter.step_seconds,
        "disk_traffic": {"read_bytes": sums[4], "written_bytes": sums[5]},
        "energy_joules": sums[3] / 1000 or None,
        "energy_counted_by": meter.energy.names() if meter.energy else "",
        "peak_memory": peak,
        "predicted_memory": predicted,
        "memory_gap": gaps,
        "history": history,
        "best_step": int(min(evals, key=lambda row: row["eval_loss"])["step"]) if evals else None,
        "saved_step": state.best_global_step if args.load_best_model_at_end else state.global_step,
        "seed": args.seed,
        "processes": args.world_size,
        "micro_batch": args.per_device_train_batch_size,
        "rows_per_step": rows_per_step(args),
        "master_precision": precision,
        "distributed": str(trainer.accelerator.distributed_type.value),
        "wrapped_by": wrapping.wrapped_by(trainer.model_wrapped),
        "offload": wrapping.offload(trainer.model_wrapped, trainer.accelerator),
        "quantization": "nf4" if getattr(trainer.model, "is_loaded_in_4bit", False) else None,
        "comparable": {**comparable(study, args, data), "loses_small_updates": precision == "bfloat16"},
        "settings": arm.settings,
        "versions": versions(),
        "fingerprint": arm.fingerprint,
    }
    write_json(arm.folder / "train.json", written)


def parameter_counts(network: torch.nn.Module) -> tuple[int, int]:
    """(trainable, total) logical parameters: sharded ones counted whole, 4-bit ones counted unpacked."""
    trainable = total = 0
    for parameter in network.parameters():
        size = getattr(parameter, "ds_numel", parameter.numel())
        if parameter.__class__.__name__ == "Params4bit":
            size = parameter.quant_state.shape.numel()  # type: ignore[attr-defined]
        trainable += size if parameter.requires_grad else 0
        total += size
    return trainable, total


def master_precision(network: torch.nn.Module, args: "SFTConfig", flash: bool = False) -> str:
    """In what the optimizer keeps the trained weights: what an update below their last bit is added to.

    'bfloat16' loses updates below a 256th of a weight; 'bfloat16, stochastic rounding' keeps them on average.
    `flash`: by FlashAdamW, which keeps 8 more bits of each bf16 weight.
    """
    if args.deepspeed_plugin is not None:  # float32 master weights, unless bf16_states asks for others
        keeps = args.deepspeed_plugin.deepspeed_config.get("bf16", {}).get("bf16_master_weights_and_grads")
        return "bfloat16" if keeps else "float32"
    kinds = sorted({str(p.dtype).removeprefix("torch.") for p in network.parameters() if p.requires_grad})
    stochastic = "bf16_stochastic_round=true" in str(args.optim_args or "").lower().replace(" ", "")
    lowest = kinds[0] if kinds else "float32"  # bfloat16 and float16 sort before float32
    kept = ", stochastic rounding" if stochastic else " and 8 bits more" if flash else ""
    return lowest + (kept if lowest == "bfloat16" else "")


def _over_ranks(trainer: RecipeTrainer, values: list[int], how: str) -> list[int]:
    tensor = torch.tensor(values, dtype=torch.int64, device=trainer.args.device)
    return (
        [int(v) for v in trainer.accelerator.reduce(tensor, "sum").tolist()]
        if how == "sum"
        else [int(v) for v in trainer.accelerator.gather(tensor[None]).max(0).values.tolist()]
    )


def forget_mapped_weights(trainer: RecipeTrainer) -> None:
    """Measure the peak of host memory from here on, where the weights went to a GPU through mapped files.

    The pages of the files count as resident while they are copied (14.5 GB for 7.24 billion weights), and are the
    system's to take back at any time. Where the system refuses, the peak stays as it is.
    """
    sharded = trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled  # there the weights stay for a while, or for good
    if trainer.args.device.type == "cuda" and not sharded:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # resets the peak of resident memory: proc(5)


def _peak_host_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB


def _peak_device_bytes() -> list[int]:
    """[reserved by torch, used as nvidia-smi counts, allocated] at the peak; the second includes others on the GPU."""
    if not torch.cuda.is_available():
        return [0, 0, 0]
    free, total = torch.cuda.mem_get_info()
    reserved = torch.cuda.max_memory_reserved()
    used = reserved + max(0, total - free - torch.cuda.memory_reserved())
    return [reserved, used, torch.cuda.max_memory_allocated()]
