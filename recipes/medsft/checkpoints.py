"""Checkpoints that are whole or not used: sealed with the SHA-256 of every file, verified before training resumes.

A checkpoint counts from the moment its manifest is written, after every other file is on the disk. Older ones are
deleted only then, so a crash at any moment leaves at least one that verifies, once there was one.
"""

import json
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_utils import rotate_checkpoints, sort_checkpoints

from medsft.cli import UserError
from medsft.files import fsync, read_json, sha256_file, write_json

MANIFEST = "manifest.json"


class SealCheckpoints(TrainerCallback):
    """Seals each checkpoint as it is written and keeps the newest `keep` and the best one."""

    def __init__(self, keep: int | None) -> None:
        self.keep = keep

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        wait_for_all(args)  # other ranks write their optimizer shards and random states
        if state.is_world_process_zero:
            seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")
            rotate_checkpoints(args.output_dir, self.keep, state.best_model_checkpoint)
        wait_for_all(args)


def seal(folder: Path, but: str = MANIFEST) -> None:
    """Bring every file to the disk, then write the manifest: {file: SHA-256}. Threads hash about 1.5 GB/s a core.

    `but`: ending of files that may change later.
    """
    (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle; config.yaml says the same in the open
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith((MANIFEST, but))]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(fsync, files))
        sums = list(threads.map(sha256_file, files))
    write_json(folder / MANIFEST, {str(f.relative_to(folder)): s for f, s in zip(files, sums, strict=True)})


def fault(folder: Path) -> str:
    """What is wrong with a checkpoint: '' if nothing, 'unfinished' without a manifest, or the first damaged file."""
    try:
        expected = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "unfinished"
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        sums = threads.map(lambda name: sha256_file(folder / name) if (folder / name).is_file() else "", expected)
        return next((name for name, found in zip(expected, sums, strict=True) if found != expected[name]), "")


def verify(weights: Path) -> None:
    """Raise UserError where a file of a saved adapter or model is not as it was saved; those without manifest pass."""
    if (weights / MANIFEST).is_file() and (wrong := fault(weights)):
        raise UserError(
            f"{weights}: {MANIFEST if wrong == 'unfinished' else wrong} is damaged; restore it, or delete "
            f"{weights.parent}/train.json and {weights}, and run the arm's command again"
        )


def newest(folder: Path) -> Path | None:
    """The newest checkpoint of `folder` that verifies. Unfinished ones are deleted, damaged ones set aside by name."""
    if not folder.is_dir():
        return None
    for checkpoint in map(Path, reversed(sort_checkpoints(str(folder)))):
        wrong = fault(checkpoint)
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


def resume_from(args: Any) -> str | None:
    """`newest`, decided by the first process and told to all, so that none resumes from another step."""
    found: list[str | None] = [None]
    if args.process_index == 0:
        checkpoint = newest(Path(args.output_dir))
        found = [str(checkpoint) if checkpoint else None]
    if args.world_size > 1:
        import torch

        torch.distributed.broadcast_object_list(found, src=0)
    return found[0]


def wait_for_all(args: Any) -> None:
    """A barrier, where there is more than one process."""
    if args.world_size > 1:
        import torch

        torch.distributed.barrier()


def evaluation_left_out(checkpoint: Path, strategy: str) -> bool:
    """Whether an evaluation was due at the checkpoint's step that a stop on a signal did not wait for."""
    state = read_json(checkpoint / "trainer_state.json")
    step = state["global_step"]
    if any("eval_loss" in row and row["step"] == step for row in state["log_history"]):
        return False
    due = {"steps": step % max(state["eval_steps"] or 1, 1) == 0, "epoch": float(state["epoch"]).is_integer()}
    return due.get(strategy, False)
