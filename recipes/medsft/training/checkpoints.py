"""Checkpoints with a manifest of the SHA-256 of every file, verified before training resumes.

A checkpoint is valid from the moment its manifest is written, after every other file is on the disk. Older ones are
deleted only then, so a crash at any moment leaves at least one valid checkpoint, once there was one.
"""

import shutil
import sys
from pathlib import Path

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import rotate_checkpoints, sort_checkpoints

from medsft import manifest
from medsft.errors import UserError
from medsft.files import read_json


class CheckpointManifests(TrainerCallback):
    """Writes the manifest of each checkpoint once it is saved, and keeps the newest `keep` and the best one."""

    def __init__(self, keep: int | None) -> None:
        self.keep = keep

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        wait_for_all(args)  # other ranks write their optimizer shards and random states
        if state.is_world_process_zero:
            folder = Path(str(args.output_dir))
            manifest.write(folder / f"checkpoint-{state.global_step}")
            rotate_checkpoints(str(folder), self.keep, state.best_model_checkpoint)
        wait_for_all(args)


def newest(folder: Path) -> Path | None:
    """The newest valid checkpoint of `folder`. Unfinished ones are deleted, damaged ones renamed to damaged-*."""
    if not folder.is_dir():
        return None
    for checkpoint in map(Path, reversed(sort_checkpoints(str(folder)))):
        wrong = manifest.problem(checkpoint)
        if not wrong:
            return checkpoint
        if wrong == "unfinished":
            print(f"{checkpoint} was not finished when the run ended: deleted", file=sys.stderr)
            shutil.rmtree(checkpoint)
            continue
        aside = checkpoint.with_name(f"damaged-{checkpoint.name}")
        print(f"{checkpoint}: {wrong} is damaged; the checkpoint is set aside as {aside.name}", file=sys.stderr)
        shutil.rmtree(aside, ignore_errors=True)
        checkpoint.rename(aside)
    return None


def resume_from(args: TrainingArguments) -> str | None:
    """`newest`, decided by the first process and broadcast, so that all processes resume from the same step.

    Raises UserError on a machine that does not see it.
    """
    found: list[str | None] = [None]
    if args.process_index == 0:
        checkpoint = newest(Path(str(args.output_dir)))
        found = [str(checkpoint) if checkpoint else None]
    if args.world_size > 1:
        import torch

        torch.distributed.broadcast_object_list(found, src=0)
    if found[0] is not None and not Path(found[0]).is_dir():
        raise UserError(f"{found[0]}: not on this machine; all machines of a run need one study folder: share it")
    return found[0]


def wait_for_all(args: TrainingArguments) -> None:
    """A barrier, where there is more than one process."""
    if args.world_size > 1:
        import torch

        torch.distributed.barrier()


def evaluation_left_out(checkpoint: Path, strategy: str) -> bool:
    """Whether an evaluation was due at the checkpoint's step, and was skipped because a signal stopped the run."""
    state = read_json(checkpoint / "trainer_state.json")
    step = state["global_step"]
    if any("eval_loss" in row and row["step"] == step for row in state["log_history"]):
        return False
    due = {"steps": step % max(state["eval_steps"] or 1, 1) == 0, "epoch": float(state["epoch"]).is_integer()}
    return due.get(strategy, False)
