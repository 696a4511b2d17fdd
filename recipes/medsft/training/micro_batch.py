"""Cheaper settings that the memory plan says fit: chosen before training by --auto_batch, named after it ran out."""

import errno
import shutil
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from medsft.errors import DoesNotFit
from medsft.files import read_json, write_json
from medsft.hardware.specs import machine
from medsft.memory import planner
from medsft.memory.step_config import StepSettings
from medsft.models import loading
from medsft.records import Memory, PlanRow
from medsft.training.run_folder import Arm

FULL_DISK = 64 * 2**20  # bytes; with less than this free a failed write is a full disk


@dataclass(frozen=True)
class Run:
    """What the memory plan must know of a run; `config` is its SFTConfig, `step` what `training_step.of_recipe` says of
    it, `longest` the tokens of its longest row.
    """

    strategy: str
    base_model: str
    config: Any
    step: StepSettings
    longest: int
    reserve_bytes: int = 0

    @property
    def rows(self) -> int:
        """Rows a device sees in one optimizer step."""
        return int(self.config.per_device_train_batch_size * self.config.gradient_accumulation_steps)

    @property
    def checkpointing(self) -> bool:
        return bool(self.step["checkpointing"])

    @property
    def length(self) -> int:
        """Tokens of a row as it is padded: the longest one's, and never more than is kept of it."""
        limit = self.config.max_length or self.longest
        return int(limit if self.step["packing"] else min(limit, self.longest))

    def predicted(self, batch: int, checkpointing: bool) -> Memory:
        """Peak bytes on the device and the host at this micro-batch."""
        architecture, here = loading.load_config(self.base_model), machine(self.config.output_dir or ".")
        step: StepSettings = {**self.step, "checkpointing": checkpointing}
        return planner.predict(self.strategy, architecture, here, batch, self.length, **step)

    def others(self, batch: int) -> list[PlanRow]:
        """Every way of training on this machine, at this micro-batch."""
        architecture, here = loading.load_config(self.base_model), machine(self.config.output_dir or ".")
        return planner.strategies(architecture, here, batch, self.length, **self.step)

    def fits(self, batch: int, checkpointing: bool) -> bool:
        """Whether the plan says that this micro-batch fits what is free now."""
        try:
            planner.check_fits(self.predicted(batch, checkpointing), machine("."), self.reserve_bytes)
        except DoesNotFit:
            return False
        return True


def choose_micro_batch(arm: Arm, run: Run) -> None:
    """Set the largest micro-batch that the plan says fits, at the same rows a step; recorded in auto_batch.json.

    One that once ran out of memory is not tried again. Raises DoesNotFit where not even one row fits.
    """
    path, config, rows = arm.folder / "auto_batch.json", run.config, run.rows
    with config.main_process_first(desc="choosing the micro-batch"):
        tried = read_json(path) if path.exists() else {"micro_batch": None, "ran_out": []}
        if config.should_save and tried["micro_batch"] is None:
            sizes = [size for size in divisors(rows) if size < min([*tried["ran_out"], rows + 1])]
            fitting = (size for size in sizes if run.fits(size, run.checkpointing))
            tried["micro_batch"] = next(fitting, None)
            if tried["micro_batch"] is None:
                raise DoesNotFit(f"no micro-batch fits; {'; '.join(cheaper(run)) or 'see make plan'}")
            write_json(path, tried)
    chosen = read_json(path)["micro_batch"]
    config.per_device_train_batch_size, config.gradient_accumulation_steps = chosen, rows // chosen


@contextmanager
def explained(arm: Arm, run: Run, auto_batch: bool) -> Iterator[None]:
    """Turn exhausted device memory, host memory or disk inside the block into DoesNotFit, with what would fit."""
    try:
        yield
    except Exception as error:
        place = ran_out_of(error, str(arm.folder))
        if not place:
            raise
        if place == "disk":
            raise DoesNotFit(
                f"the disk of {arm.folder} is full; what was finished is kept: free some space, or save less often "
                "(--save_steps), and run the same command"
            ) from error
        traceback.clear_frames(error.__traceback__)  # they hold the failed step's tensors, and the plan wants room too
        try:
            remedy = "; or ".join(cheaper(run)) or "the plan knows nothing cheaper that fits: make plan"
        except MemoryError:
            remedy = "make plan shows it; this process has no room left to"
        batch = run.config.per_device_train_batch_size
        if auto_batch and batch > 1:
            path = arm.folder / "auto_batch.json"
            write_json(path, {"micro_batch": None, "ran_out": [*read_json(path)["ran_out"], batch]})
            remedy = f"the same command will try a smaller micro-batch; or {remedy}"
        limits = f"{batch} rows of at most {run.config.max_length} tokens"
        raise DoesNotFit(f"{place} memory ran out at {limits}; cheaper, and predicted to fit: {remedy}") from error


def ran_out_of(error: BaseException, folder: str) -> str:
    """'device', 'host' or 'disk' where that is what an exception of torch, DeepSpeed or the system means; '' if not."""
    text = str(error)
    if "CUDA out of memory" in text or type(error).__name__ == "OutOfMemoryError":
        return "device"
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in text:
        return "disk"
    if isinstance(error, MemoryError) or "can't allocate memory" in text or "Cannot allocate memory" in text:
        return "host"
    # oneDNN drops its reason. Here it found no room for the code it writes; a shape it cannot do ends in "descriptor".
    if text.endswith("could not create a primitive"):
        return "host"
    # torch's writer does not say why it could not write
    written = any(word in text for word in ("PytorchStreamWriter", "inline_container", "iostream error"))
    return "disk" if written and shutil.disk_usage(folder).free < FULL_DISK else ""


def cheaper(run: Run) -> list[str]:
    """Settings that need less than this run's and fit the machine, as flags or strategies, least loss of speed first.

    Smaller micro-batches come first (same arithmetic, more launches), then recomputing activations (a third more
    time), then other strategies by the plan's seconds per step.
    """
    batch, rows = run.config.per_device_train_batch_size, run.rows
    smaller = [size for size in divisors(rows) if size < batch and run.fits(size, run.checkpointing)]
    found = [f"--per_device_train_batch_size {s} --gradient_accumulation_steps {rows // s}" for s in smaller[:2]]
    if not run.checkpointing and run.fits(batch, True):
        found.append("--activation_checkpointing true")
    here = machine(run.config.output_dir or ".")
    predicted = run.predicted(batch, run.checkpointing)
    now = predicted["device_bytes"] + predicted["host_bytes"]
    lighter = [o for o in run.others(1) if o["fits"] and o["name"] != run.strategy and _total(o, here.gpus) < now]
    lighter.sort(key=lambda other: other["seconds_per_step"] or 0)
    return found + [f"{o['name']} with accelerate_configs/{o['accelerate_config']}" for o in lighter[:3]]


def divisors(rows: int) -> list[int]:
    """Micro-batches that make up `rows` exactly, largest first."""
    return [size for size in range(rows, 0, -1) if rows % size == 0]


def _total(strategy: PlanRow, gpus: int) -> int:
    """Device and host bytes together, as `memory.predict` counts them: without a GPU all is the host's."""
    return int(strategy["host_bytes"] + (sum(strategy["device_bytes"].values()) if gpus else 0))
