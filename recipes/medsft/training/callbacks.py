"""What watches a training run: counts of what was trained on, reasons to stop, a history anyone can open."""

import csv
import io
import math
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from medsft.errors import DoesNotFit, UserError
from medsft.files import write_text
from medsft.hardware.cgroups import disk_traffic, host_memory
from medsft.hardware.energy import Energy

GOES_ON, SIGNALLED, HOST_MEMORY, DIVERGED = range(4)
HISTORY = ["step", "epoch", "loss", "eval_loss", "learning_rate", "grad_norm"]


class Meter(TrainerCallback, ExportableState):
    """Counts what was really trained on; its state is kept in checkpoints, so a resumed run counts on.

    Checkpoints keep the state of the first process alone: it counts for all, and the others count from step to step.
    """

    def __init__(
        self, tokens: int = 0, answer_tokens: int = 0, joules: float = 0.0, step_seconds: list[float] | None = None,
        read: int = 0, written: int = 0,
    ) -> None:  # fmt: skip
        self.tokens, self.answer_tokens, self.joules = tokens, answer_tokens, joules
        self.read, self.written, self._traffic = read, written, (0, 0)
        self.step_seconds = step_seconds or []
        self._started, self._typical_from = 0.0, len(self.step_seconds)
        self.energy: Energy | None = None

    def state(self) -> dict[str, Any]:
        kept = ("tokens", "answer_tokens", "joules", "step_seconds", "read", "written")
        return {"args": {name: getattr(self, name) for name in kept}, "attributes": {}}

    def on_train_begin(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
        if not state.is_world_process_zero:
            self.tokens = self.answer_tokens = 0
            self.joules = 0.0
        self.energy = Energy(processor=args.local_process_index == 0)

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._started, self._traffic = time.monotonic(), disk_traffic()
        if self.energy is not None:
            self.energy.joules()  # what was spent between the steps, on evaluation for example, is left out

    def on_step_end(self, args: Any, state: Any, control: Any, **__: Any) -> None:
        self.step_seconds.append(round(time.monotonic() - self._started, 4))
        read, written = disk_traffic()
        self.read, self.written = self.read + read - self._traffic[0], self.written + written - self._traffic[1]
        if self.energy is not None:
            self.joules += self.energy.joules()
        if args.world_size > 1:
            mine = [self.tokens, self.answer_tokens, self.joules]
            spent = torch.tensor(mine, dtype=torch.float64, device=args.device)
            torch.distributed.all_reduce(spent)
            of_all = spent.tolist() if state.is_world_process_zero else [0, 0, 0.0]
            self.tokens, self.answer_tokens, self.joules = int(of_all[0]), int(of_all[1]), of_all[2]
        fresh = self.step_seconds[self._typical_from :]
        if len(fresh) == 3 and state.is_world_process_zero:  # the first step is slower, caches being cold
            typical = sorted(fresh)[1]
            left = typical * (state.max_steps - state.global_step)
            print(f"{typical:.2g} s a step: about {duration(left)} left, without evaluations", file=sys.stderr)

    def count(self, inputs: dict[str, torch.Tensor]) -> None:
        mask = inputs.get("attention_mask")
        self.tokens += int(inputs["input_ids"].numel() if mask is None else mask.sum())
        self.answer_tokens += int((inputs["labels"] != -100).sum())


class Watch(TrainerCallback):
    """Stops training, on all ranks at the same step, when asked to, when it diverges, or before memory runs out.

    Asked by SIGTERM or SIGINT, or short of host memory, it writes a checkpoint first; a second SIGINT ends the run at
    once. A diverged run writes none, so the last good one stays: a loss that is not finite or above `highest` (twice
    that of a model that guesses: 2 ln(vocabulary)), or weights that are not finite when they are about to be saved.
    """

    def __init__(self, vocabulary: int, host_floor_bytes: int) -> None:
        self.highest, self.floor = 2 * math.log(vocabulary), host_floor_bytes
        self.reason, self.available, self.loss = GOES_ON, 2**63, 0.0
        self._training = threading.Event()
        self._losses: list[torch.Tensor] = []

    def see(self, loss: torch.Tensor) -> None:
        """Take the loss of one micro-batch, scaled by accumulation; kept on its device, read once a step."""
        self._losses.append(loss.detach())

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        signal.signal(signal.SIGTERM, self._remember)
        signal.signal(signal.SIGINT, self._remember)
        self._training.set()
        threading.Thread(target=self._look_at_memory, daemon=True).start()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self._training.clear()

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **__: Any) -> None:
        self.loss = float(torch.stack(self._losses).sum())
        self._losses.clear()
        self.available = min(self.available, host_memory()[1])
        if self.available < self.floor:
            self.reason = max(self.reason, HOST_MEMORY)
        if not self.loss <= self.highest or (control.should_save and not finite(model)):
            self.reason = DIVERGED
        if args.world_size > 1:  # ranks may be signalled on two sides of a step; all must stop at the same one
            flag = torch.tensor(self.reason, device=args.device)
            torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
            self.reason = int(flag)
        if self.reason != GOES_ON:
            control.should_training_stop = True
            control.should_save = self.reason != DIVERGED
            control.should_evaluate = False

    def raise_if_stopped(self, step: int, learning_rate: float, checkpoint: Path | None) -> None:
        """Raise KeyboardInterrupt, DoesNotFit or UserError for what stopped the run; nothing if it ran to its end."""
        if self.reason == SIGNALLED:
            raise KeyboardInterrupt
        kept = f"the last good checkpoint is {checkpoint}" if checkpoint else "there is no checkpoint yet"
        if self.reason == HOST_MEMORY:
            raise DoesNotFit(
                f"{self.available / 1e9:.1f} GB of host memory were left at step {step}, below host_floor_gb; {kept}; "
                "free memory and run the same command, or take a cheaper setting: make plan"
            )
        if self.reason == DIVERGED:
            raise UserError(
                f"training diverged at step {step}: loss {self.loss:.4g} at learning rate {learning_rate:.2g}; {kept}; "
                "lower --learning_rate or raise --warmup_steps, with another --arm"
            )

    def _look_at_memory(self) -> None:
        """Four times a second: an optimizer step on the host needs more than what is seen between two steps."""
        while self._training.is_set():
            self.available = min(self.available, host_memory()[1])
            time.sleep(0.25)

    def _remember(self, number: int, _: Any) -> None:
        if self.reason == SIGNALLED and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.reason = max(self.reason, SIGNALLED)
        print("stopping: a checkpoint is written at the end of this step", file=sys.stderr)


class History(TrainerCallback):
    """history.csv in the arm's folder, written anew at each log, so that a resumed run's has no gap and no double."""

    def on_log(self, args: Any, state: Any, control: Any, **__: Any) -> None:
        if not state.is_world_process_zero:
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, HISTORY, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(row for row in state.log_history if "loss" in row or "eval_loss" in row)
        write_text(Path(args.output_dir) / "history.csv", text.getvalue())


def finite(network: Any) -> bool:
    """Whether every trained weight that this rank holds is a number."""
    trained = (p for p in network.parameters() if p.requires_grad)
    # ZeRO-3 keeps this rank's part in ds_tensor, FSDP2 behind to_local()
    held = (getattr(p, "ds_tensor", p.to_local() if hasattr(p, "to_local") else p) for p in trained)
    return all(bool(torch.isfinite(tensor).all()) for tensor in held)


def duration(seconds: float) -> str:
    """'2 h 05 min', '7 min' or '40 s'."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"
