"""What a run was trained on and what it took: tokens, seconds, joules, disk traffic."""

import sys
import time
from typing import TypedDict

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from medsft.hardware.cgroups import disk_traffic
from medsft.hardware.energy import Energy


class Counts(TypedDict):
    """What a checkpoint keeps: the arguments of `Meter`."""

    tokens: int
    answer_tokens: int
    joules: float
    step_seconds: list[float]
    read: int
    written: int
    wall: float


class MeterState(TypedDict):
    """The form that transformers saves a callback in."""

    args: Counts
    attributes: dict[str, object]


class Meter(TrainerCallback, ExportableState):
    """Counts what the run is trained on. Its state is kept in checkpoints, so a resumed run continues the counts.

    Checkpoints keep the state of the first process alone: it holds the sums over all processes, and the others count
    from step to step. `read` and `written`: bytes of disk traffic within steps. `wall`: seconds of the runs before this
    one, each until its last checkpoint.
    """

    def __init__(
        self, tokens: int = 0, answer_tokens: int = 0, joules: float = 0.0, step_seconds: list[float] | None = None,
        read: int = 0, written: int = 0, wall: float = 0.0,
    ) -> None:  # fmt: skip
        self.tokens, self.answer_tokens, self.joules = tokens, answer_tokens, joules
        self.read, self.written, self._traffic = read, written, (0, 0)
        self.step_seconds = step_seconds or []
        self.wall, self._began = wall, time.monotonic()
        self._started, self._typical_from = 0.0, len(self.step_seconds)
        self.energy: Energy | None = None

    def state(self) -> MeterState:  # type: ignore[override]
        counts: Counts = {
            "tokens": self.tokens,
            "answer_tokens": self.answer_tokens,
            "joules": self.joules,
            "step_seconds": self.step_seconds,
            "read": self.read,
            "written": self.written,
            "wall": round(self.wall + time.monotonic() - self._began, 2),
        }
        return {"args": counts, "attributes": {}}

    def count(self, inputs: dict[str, torch.Tensor]) -> None:
        """Add the tokens of one micro-batch."""
        mask = inputs.get("attention_mask")
        self.tokens += int(inputs["input_ids"].numel() if mask is None else mask.sum())
        self.answer_tokens += int((inputs["labels"] != -100).sum())

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        self._began = time.monotonic()
        if not state.is_world_process_zero:
            self.tokens = self.answer_tokens = 0
            self.joules = 0.0
        self.energy = Energy(processor=args.local_process_index == 0)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        self._started, self._traffic = time.monotonic(), disk_traffic()
        if self.energy is not None:
            self.energy.joules()  # what was spent between the steps, on evaluation for example, is left out

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        self.step_seconds.append(round(time.monotonic() - self._started, 4))
        read, written = disk_traffic()
        self.read, self.written = self.read + read - self._traffic[0], self.written + written - self._traffic[1]
        if self.energy is not None:
            self.joules += self.energy.joules()
        if args.world_size > 1:
            own = [self.tokens, self.answer_tokens, self.joules]
            spent = torch.tensor(own, dtype=torch.float64, device=args.device)
            torch.distributed.all_reduce(spent)
            sums = spent.tolist() if state.is_world_process_zero else [0, 0, 0.0]
            self.tokens, self.answer_tokens, self.joules = int(sums[0]), int(sums[1]), sums[2]
        fresh = self.step_seconds[self._typical_from :]
        if len(fresh) == 3 and state.is_world_process_zero:  # the first step is slower, caches being cold
            typical = sorted(fresh)[1]
            left = typical * (state.max_steps - state.global_step)
            print(f"{typical:.2g} s a step: about {duration(left)} left, without evaluations", file=sys.stderr)


def duration(seconds: float) -> str:
    """'2 h 05 min', '7 min' or '40 s'."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"
