"""The memory of a run: checked before it, the micro-batch of --auto_batch, and what would fit after it ran out."""

import errno
import shutil
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import psutil

from medsft.distributed import deepspeed_config, waiting
from medsft.errors import DoesNotFit, UserError
from medsft.files import read_json, write_json
from medsft.hardware.specs import Hardware, launched, machine
from medsft.memory import calibration, choices, planner
from medsft.memory.choices import divisors
from medsft.memory.plan_records import PlanRow
from medsft.memory.step_config import StepSettings
from medsft.memory.strategies import STRATEGIES
from medsft.models import loading
from medsft.models.parameter_counts import count_parameters
from medsft.records import Memory
from medsft.training.run_folder import ArmFolder

if TYPE_CHECKING:
    from trl import SFTConfig

FULL_DISK = 64 * 2**20  # bytes; with less than this free a failed write is a full disk


@dataclass(frozen=True)
class Run:
    """What the memory plan needs to know of a run. `step`: of `step_config.of_recipe`; `longest`: tokens of the longest
    row; `mean`: of an average one.
    """

    strategy: str
    base_model: str
    config: "SFTConfig"
    step: StepSettings
    longest: int
    mean: float
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
        """Tokens of a padded row: those of the longest one, cut to max_length; with packing always max_length."""
        limit = self.config.max_length or self.longest
        return int(limit if self.step["packing"] else min(limit, self.longest))

    @property
    def here(self) -> Hardware:
        """This machine now, with the processes that were launched."""
        return launched(machine(self.config.output_dir or "."), self.config.world_size)

    def predicted(self, batch: int, checkpointing: bool) -> Memory:
        """Peak bytes on the device and the host at this micro-batch."""
        architecture, here = loading.load_config(self.base_model), self.here
        step: StepSettings = {**self.step, "checkpointing": checkpointing}
        return planner.predict(self.strategy, architecture, here, batch, self.length, **step)

    def others(self, batch: int) -> list[PlanRow]:
        """Every strategy on this machine, at this micro-batch."""
        architecture, here = loading.load_config(self.base_model), self.here
        return planner.strategies(architecture, here, batch, self.length, **self.step)

    def fits(self, batch: int, checkpointing: bool) -> bool:
        """Whether the plan predicts that this micro-batch fits what is free now."""
        try:
            planner.check_fits(self.predicted(batch, checkpointing), self.here, self.reserve_bytes)
        except DoesNotFit:
            return False
        return True


def check_memory(run: Run, saves: bool = True) -> Memory:
    """Predicted peak bytes of this run, with `process_bytes`, those of the process before it. Raises DoesNotFit, naming
    what would fit, where they exceed what is free now.
    """
    batch = run.config.per_device_train_batch_size
    predicted = run.predicted(batch, run.checkpointing)
    if not saves:  # a save gathers all weights on the host: ZeRO-3 in 16 bits, FSDP2 in 32
        wide = 4 if STRATEGIES[run.strategy].engine == "fsdp2" else 2 * (deepspeed_config.zero_stage(run.config) == 3)
        predicted["host_bytes"] -= wide * count_parameters(loading.load_config(run.base_model))
    here, process = run.here, psutil.Process().memory_info().rss
    if not here.gpus and run.config.world_size == 1 and run.config.deepspeed_plugin is None:
        # everything is imported by now: its size is known, where the plan estimates it
        predicted["host_bytes"] += process - calibration.of_machine(here).process_bytes
    planner.check_fits(predicted, here, run.reserve_bytes, lambda: run.others(batch))
    return {**predicted, "process_bytes": process}


def choose_micro_batch(arm: ArmFolder, run: Run) -> None:
    """Set the largest micro-batch that the plan predicts to fit, at the same rows per step; kept in auto_batch.json.

    One that once ran out of memory is not tried again. Raises DoesNotFit where not even one row fits.
    """
    path, config, rows = arm.folder / "auto_batch.json", run.config, run.rows

    def choose() -> int:
        tried = read_json(path) if path.exists() else {"micro_batch": None, "ran_out": []}
        if tried["micro_batch"] is None:
            sizes = [size for size in divisors(rows) if size < min([*tried["ran_out"], rows + 1])]
            fitting = (size for size in sizes if run.fits(size, run.checkpointing))
            tried["micro_batch"] = next(fitting, None)
            if tried["micro_batch"] is None:
                raise DoesNotFit(f"no micro-batch fits; {'; '.join(cheaper(run)) or 'see make plan'}")
            write_json(path, tried)
        return int(tried["micro_batch"])

    chosen = waiting.decided(config.process_index == 0, choose)
    config.per_device_train_batch_size, config.gradient_accumulation_steps = chosen, rows // chosen


def choose_for_speed(run: Run, argv: list[str], grows: bool) -> Run:
    """`run` with the activation checkpointing and, where it `grows`, the micro-batch that are fastest on this GPU at
    the same rows a step; what the command line names stays.
    """

    def named(*options: str) -> bool:
        return any(word.removeprefix("--").startswith(options) for word in argv if word.startswith("--"))

    config, batch, recomputes = run.config, run.config.per_device_train_batch_size, run.checkpointing
    grows = grows and not named("per_device_train_batch_size", "gradient_accumulation_steps")
    pairs = choices.candidates(batch, recomputes, run.rows, grows, not named("activation_checkpointing"))
    architecture, here, mean = loading.load_config(run.base_model), run.here, min(run.mean, run.length)
    choice = choices.fastest(run.strategy, architecture, here, pairs, run.rows, run.length, mean, **run.step)
    if not choice.reason:
        return run
    config.activation_checkpointing = config.gradient_checkpointing = choice.checkpointing
    config.gradient_accumulation_steps = run.rows // choice.batch
    config.per_device_train_batch_size = choice.batch
    if config.should_save:
        print("chosen for this machine: " + "; ".join(choices.worded(choice, batch, recomputes)))
    changed = {"checkpointing": choice.checkpointing, "accumulates": config.gradient_accumulation_steps > 1}
    return replace(run, step={**run.step, **changed})  # type: ignore[typeddict-item]


@contextmanager
def explained(arm: ArmFolder, run: Run, auto_batch: bool) -> Iterator[None]:
    """Turn exhausted device memory, host memory or disk inside the block into DoesNotFit, with what would fit."""
    try:
        yield
    except Exception as error:
        resource = ran_out_of(error, str(arm.folder))
        if not resource:
            raise
        if resource == "disk":
            raise DoesNotFit(
                f"the disk of {arm.folder} is full; what was finished is kept: free some space, or save less often "
                "(--save_steps), and run the same command"
            ) from error
        traceback.clear_frames(error.__traceback__)  # they keep the failed step's tensors; the plan needs memory
        try:
            remedy = "; or ".join(cheaper(run)) or "the plan knows nothing cheaper that fits: make plan"
        except (MemoryError, UserError) as failed:
            no_room = "too little memory is left in this process to compute it"
            remedy = f"run make plan; {no_room if isinstance(failed, MemoryError) else failed}"
        batch = run.config.per_device_train_batch_size
        if auto_batch and batch > 1 and (arm.folder / "auto_batch.json").exists():
            path = arm.folder / "auto_batch.json"
            write_json(path, {"micro_batch": None, "ran_out": [*read_json(path)["ran_out"], batch]})
            remedy = f"the same command will try a smaller micro-batch; or {remedy}"
        limits = f"{batch} rows of at most {run.config.max_length} tokens"
        raise DoesNotFit(f"{resource} memory ran out at {limits}; cheaper, and predicted to fit: {remedy}") from error


def ran_out_of(error: BaseException, folder: str) -> str:
    """'device', 'host' or 'disk' where an error of torch, DeepSpeed or the system means that it is full; else ''."""
    text = str(error)
    if "CUDA out of memory" in text or type(error).__name__ == "OutOfMemoryError":
        return "device"
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in text:
        return "disk"
    if isinstance(error, MemoryError) or "can't allocate memory" in text or "Cannot allocate memory" in text:
        return "host"
    # oneDNN drops its reason. Here it had no memory for generated code; for an unsupported shape the text ends in
    # "descriptor".
    if text.endswith("could not create a primitive"):
        return "host"
    # torch's writer gives no reason
    written = any(word in text for word in ("PytorchStreamWriter", "inline_container", "iostream error"))
    return "disk" if written and shutil.disk_usage(folder).free < FULL_DISK else ""


def cheaper(run: Run) -> list[str]:
    """Settings that need less memory than this run's and fit the machine, as flags or strategies, fastest first.

    Smaller micro-batches come first (same arithmetic, more launches), then recomputing activations (a third more
    time), then other strategies by the plan's seconds per step.
    """
    batch, rows = run.config.per_device_train_batch_size, run.rows
    sizes = [size for size in divisors(rows) if size < batch and not run.step.get("in_backward")]  # cannot accumulate
    smaller = [size for size in sizes if run.fits(size, run.checkpointing)]
    found = [f"--per_device_train_batch_size {s} --gradient_accumulation_steps {rows // s}" for s in smaller[:2]]
    if not run.checkpointing and run.fits(batch, True):
        found.append("--activation_checkpointing true")
    here, predicted = run.here, run.predicted(batch, run.checkpointing)
    now = predicted["device_bytes"] + predicted["host_bytes"]
    lighter = [o for o in run.others(1) if o["fits"] and o["name"] != run.strategy and _total(o, here.gpus) < now]
    lighter.sort(key=lambda other: other["seconds_per_step"] or 0)
    return found + [f"{o['name']} with accelerate_configs/{o['accelerate_config']}" for o in lighter[:3]]


def _total(strategy: PlanRow, gpus: int) -> int:
    """Device and host bytes together, as `planner.predict` counts them: without a GPU all is the host's."""
    return int(strategy["host_bytes"] + (sum(strategy["device_bytes"].values()) if gpus else 0))
