"""What watches a training run: counting what was trained on, and stopping with a checkpoint when asked to."""

import signal
import sys
import time
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState
from trl import SFTTrainer


class Meter(TrainerCallback, ExportableState):
    """Counts what was really trained on; its state is kept in checkpoints, so a resumed run counts on."""

    def __init__(self, tokens: int = 0, answer_tokens: int = 0, step_seconds: float = 0.0) -> None:
        self.tokens, self.answer_tokens, self.step_seconds = tokens, answer_tokens, step_seconds
        self._started = 0.0

    def state(self) -> dict[str, Any]:
        values = {"tokens": self.tokens, "answer_tokens": self.answer_tokens, "step_seconds": self.step_seconds}
        return {"args": values, "attributes": {}}

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._started = time.monotonic()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.step_seconds += time.monotonic() - self._started

    def count(self, inputs: dict[str, torch.Tensor]) -> None:
        mask = inputs.get("attention_mask")
        self.tokens += int(inputs["input_ids"].numel() if mask is None else mask.sum())
        self.answer_tokens += int((inputs["labels"] != -100).sum())


class StopOnSignal(TrainerCallback):
    """SIGTERM or SIGINT: finish the step, write a checkpoint, stop. A second SIGINT ends the run at once."""

    def __init__(self) -> None:
        self.received = False

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        signal.signal(signal.SIGTERM, self._remember)
        signal.signal(signal.SIGINT, self._remember)

    def on_step_end(self, args: Any, state: Any, control: Any, **__: Any) -> None:
        if args.world_size > 1:  # ranks may be signalled on two sides of a step; all must stop at the same one
            flag = torch.tensor(int(self.received), device=args.device)
            torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
            self.received = bool(flag)
        if self.received:
            control.should_save = control.should_training_stop = True

    def _remember(self, number: int, _: Any) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = True
        print("stopping: a checkpoint is written at the end of this step", file=sys.stderr)


class MeteredTrainer(SFTTrainer):
    """TRL's trainer that tells the Meter what it trains on."""

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        meter = next(c for c in self.callback_handler.callbacks if isinstance(c, Meter))
        meter.count(inputs)
        return super().training_step(model, inputs, *args, **kwargs)
