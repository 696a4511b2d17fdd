"""TRL's SFTTrainer with the meters and stops of these recipes."""

from typing import Any

import torch
from trl import SFTTrainer

from medsft.training.callbacks import Meter, Watch


class WatchedTrainer(SFTTrainer):
    """TRL's trainer that tells the Meter what it trains on and the Watch what came of it."""

    answers_only = False  # the model computes its loss by answer_loss

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        self.callback(Meter).count(inputs)
        loss = super().training_step(model, inputs, *args, **kwargs)
        self.callback(Watch).see(loss)
        return loss

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Mean over answer tokens; the short way where `answers_only` was prepared, TRL's otherwise."""
        if not self.answers_only or return_outputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        outputs = model(**{**inputs, "use_cache": False}, fused_lm_head=True)
        count = outputs.label_mask.sum() if num_items_in_batch is None else num_items_in_batch
        together = self.args.average_tokens_across_devices and num_items_in_batch is not None
        return outputs.loss / max(int(count), 1) * (self.accelerator.num_processes if together else 1)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate without drawing of training's random numbers: a resumed run, which need not, sees the same rows."""
        devices = [self.args.device] if self.args.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            return super().evaluate(*args, **kwargs)

    def callback(self, kind: type) -> Any:
        """The callback of this kind; looked up each time, as resuming replaces those that keep a state."""
        return next(c for c in self.callback_handler.callbacks if isinstance(c, kind))
