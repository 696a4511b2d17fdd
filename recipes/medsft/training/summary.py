"""The table printed before the first step: sizes, tokens, precision, predicted memory."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from transformers import SchedulerType
from transformers.training_args import OptimizerNames

from medsft.arguments import StudyArguments
from medsft.hardware.specs import machine
from medsft.patches.transformers import attention_of
from medsft.records import Memory
from medsft.training.dataset import Data
from medsft.training.record import master_precision, parameter_counts
from medsft.training.setup.rows_per_step import rows_per_step
from medsft.training.tuning.lr_sweep import chosen_rate

if TYPE_CHECKING:
    from trl import SFTConfig

    from medsft.training.trainer import RecipeTrainer


def print_summary(trainer: "RecipeTrainer", data: Data, study: StudyArguments, predicted: Memory) -> None:
    """Print the derived numbers of a run; on the main process only."""
    if not trainer.is_world_process_zero():
        return
    from rich.console import Console
    from rich.table import Table

    args = trainer.args
    batch = rows_per_step(args)
    rows = len(trainer.train_dataset)
    steps_per_epoch = -(-rows // batch)
    steps = args.max_steps if args.max_steps > 0 else math.ceil(steps_per_epoch * args.num_train_epochs)
    trainable, total = parameter_counts(trainer.model)
    kinds = sorted({str(p.dtype).removeprefix("torch.") for p in trainer.model.parameters() if p.requires_grad})
    frozen = sorted({str(p.dtype).removeprefix("torch.") for p in trainer.model.parameters() if not p.requires_grad})

    table = Table(title=f"arm '{study.arm}'", show_header=False, title_justify="left")
    unlearnable = "" if rows == len(data.train) else f" ({len(data.train) - rows:,} left out: cut before any answer)"
    packed = f"{len(data.train):,} ({rows:,} after packing)"
    table.add_row("rows to train on", packed if args.packing else f"{rows:,}{unlearnable}")
    learned = "these carry loss" if args.assistant_only_loss else "but all carry loss"
    table.add_row("tokens", f"{data.tokens:,}, of which the doctor's ({learned}) {data.answer_tokens:,}")
    shares = f"{args.world_size} x {args.gradient_accumulation_steps} x {args.per_device_train_batch_size}"
    about = data.tokens * batch // max(1, len(data.train))
    table.add_row("a step", f"{batch} rows, about {about:,} tokens (processes x accumulation x rows: {shares})")
    table.add_row("steps", f"{steps:,} ({steps / steps_per_epoch:.2f} epochs of {steps_per_epoch:,})")
    table.add_row("parameters", f"{trainable:,} trainable of {total:,} ({100 * trainable / total:.3f} %)")
    kept = master_precision(trainer.model, args, trainer.uses_flash_adamw)
    table.add_row(
        "precision",
        f"trained {', '.join(kinds)} (kept in {kept}); frozen "
        f"{', '.join(frozen) or 'none'}; autocast {_autocast(args)}",
    )
    swept = chosen_rate(Path(study.study_dir), study.arm)
    rate = f"{args.learning_rate:g}" + (
        f" (the sweep chose {swept:g})" if swept not in (None, args.learning_rate) else ""
    )
    optimizer, schedule = OptimizerNames(args.optim).value, SchedulerType(args.lr_scheduler_type).value
    table.add_row("optimizer", f"{optimizer}, {_states(args, kinds)}, {schedule} at {rate}")
    kernels = "Liger" if args.use_liger_kernel else "torch's own"
    compiled = ", torch.compile" if args.torch_compile else ""
    table.add_row("attention", f"{attention_of(trainer.model.config)}; kernels {kernels}{compiled}")
    together = f"{args.world_size} processes, {trainer.accelerator.distributed_type.value}"
    table.add_row("runs as", f"{together if args.world_size > 1 else '1 process'} on {args.device}")
    here = machine(str(args.output_dir))
    device = (
        f"device {_gb(predicted['device_bytes'])} of {_gb(here.device_available_bytes)} free, " if here.gpus else ""
    )
    host = f"host {_gb(predicted['host_bytes'])} of {_gb(here.host_available_bytes)} free"
    table.add_row("predicted peak", device + host)
    Console().print(table)


def _states(args: "SFTConfig", trained: list[str]) -> str:
    """The precision of the optimizer's states; DeepSpeed keeps float32 ones beside float32 master weights."""
    optimizer = OptimizerNames(args.optim).value
    if "8bit" in optimizer:
        return "states in 8 bits"
    if args.deepspeed_plugin is not None:
        return "states and master weights in float32"
    if "32bit" in optimizer:  # whatever bitsandbytes trains
        return "states in float32"
    return f"states in {', '.join(trained)}"


def _autocast(args: "SFTConfig") -> str:
    return "bfloat16" if args.bf16 else "float16" if args.fp16 else "off"


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
