"""When a run stops early: on a signal, when host memory runs short, when it diverges."""

import math
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from medsft.errors import DoesNotFit, UserError
from medsft.hardware.cgroups import host_memory

RUNNING, SIGNALLED, HOST_MEMORY, DIVERGED = range(4)  # where several apply, the largest counts


class StopEarly(TrainerCallback):
    """Stops training, on all ranks at the same step, on a signal, when it diverges, or before memory runs out.

    On SIGTERM or SIGINT, or short of host memory, a checkpoint is written first; a second SIGINT ends the run at once.
    A diverged run writes none, so the last good one stays. It has diverged when its loss is not finite or above
    `highest` (twice that of a model that guesses: 2 ln(vocabulary)), or when weights about to be saved are not finite.
    """

    def __init__(self, vocabulary: int, host_floor_bytes: int) -> None:
        self.highest, self.floor = 2 * math.log(vocabulary), host_floor_bytes
        self.reason, self.available, self.loss = RUNNING, 2**63, 0.0
        self._training = threading.Event()
        self._losses: list[torch.Tensor] = []

    def add_loss(self, loss: torch.Tensor) -> None:
        """Take the loss of one micro-batch, scaled by accumulation; kept on its device, read once a step."""
        self._losses.append(loss.detach())

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        self._training.set()
        threading.Thread(target=self._watch_memory, daemon=True).start()

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        self._training.clear()

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: torch.nn.Module | None = None,
        **_: object,
    ) -> None:
        self.loss = _mean_over_ranks(torch.stack(self._losses).sum(), args)
        self._losses.clear()
        self.available = min(self.available, host_memory()[1])
        if self.available < self.floor:
            self.reason = max(self.reason, HOST_MEMORY)
        if not self.loss <= self.highest or (control.should_save and model is not None and not finite(model)):
            self.reason = DIVERGED
        if args.world_size > 1:  # a signal may reach the ranks on two sides of a step; all must stop at the same one
            flag = torch.tensor(self.reason, device=args.device)
            torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
            self.reason = int(flag)
        if self.reason != RUNNING:
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

    def _watch_memory(self) -> None:
        """Four times a second: an optimizer step on the host needs more than is measured between two steps."""
        while self._training.is_set():
            self.available = min(self.available, host_memory()[1])
            time.sleep(0.25)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self.reason == SIGNALLED and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.reason = max(self.reason, SIGNALLED)
        print("stopping: a checkpoint is written at the end of this step", file=sys.stderr)


def _mean_over_ranks(loss: torch.Tensor, args: TrainingArguments) -> float:
    """The loss of the step. A rank's own is the sum of its tokens over the mean number of tokens: one of 16 with a long
    answer among short ones reads several times the loss.
    """
    if args.world_size == 1:
        return float(loss)
    mean = loss.double() / args.world_size
    torch.distributed.all_reduce(mean)
    return float(mean)


def finite(network: torch.nn.Module) -> bool:
    """Whether every trained weight that this rank holds is a number."""
    trained = (p for p in network.parameters() if p.requires_grad)
    # ZeRO-3 keeps this rank's part in ds_tensor, FSDP2 behind to_local()
    held = (getattr(p, "ds_tensor", p.to_local() if hasattr(p, "to_local") else p) for p in trained)
    return all(bool(torch.isfinite(tensor).all()) for tensor in held)
