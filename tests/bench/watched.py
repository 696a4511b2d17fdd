"""Run a training script under a stopwatch: python tests/bench/watched.py RESULT.json SCRIPT.py|MODULE ARGUMENTS...

Whatever trains by transformers' Trainer or by Lightning's Fabric is timed the same way, from outside: every step from
the start of its first micro-batch to the end of its optimizer step. RESULT.json: `first_step` [start, end] (seconds
since this process began), `steps` [{seconds, processor_seconds, tokens, positions}] (tokens without padding, positions
with it), `resident` (peak bytes).
"""

import importlib.abc
import importlib.util
import json
import resource
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil


def main() -> None:
    result, script = Path(sys.argv[1]), sys.argv[2]
    sys.argv = sys.argv[2:]
    sys.path.insert(0, str(Path(script).parent))
    watch = Stopwatch()
    sys.meta_path[:0] = [
        WhenImported("transformers.trainer", lambda module: watch.trainer(module.Trainer)),
        WhenImported("lightning.fabric", lambda _: watch.torch()),
    ]
    try:
        if script.endswith(".py"):
            runpy.run_path(script, run_name="__main__")
        else:
            runpy.run_module(script, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            raise
    began = psutil.Process().create_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
    kept = ("seconds", "processor_seconds", "tokens", "positions")
    measured = [{key: step[key] for key in kept} for step in watch.steps]
    first = [watch.steps[0][end] - began for end in ("began", "ended")] if measured else None
    result.write_text(json.dumps({"first_step": first, "resident": peak, "steps": measured}))


class WhenImported(importlib.abc.MetaPathFinder):
    """Act on a module as soon as the script imports it, and no sooner: its start is measured too."""

    def __init__(self, name: str, act: Callable[[Any], None]) -> None:
        self.name, self.act = name, act

    def find_spec(self, name: str, *_: Any) -> Any:
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        spec: Any = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def load_and_act(module: Any) -> None:
            load(module)
            self.act(module)

        spec.loader.exec_module = load_and_act
        return spec


class Stopwatch:
    """The steps of a training, from the start of the first micro-batch to the end of the optimizer's step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []
        self.now: dict[str, Any] = {}

    def micro_batch(self, tokens: int, positions: int) -> None:
        """A micro-batch begins, of so many `tokens` without padding and `positions` with it."""
        if not self.now:
            self.now.update(began=time.time(), tokens=0, positions=0)
            self.now.update(started=time.perf_counter(), processor=time.process_time())
        self.now["tokens"] += tokens
        self.now["positions"] += positions

    def ended(self) -> None:
        self.now["seconds"] = time.perf_counter() - self.now.pop("started")
        self.now["processor_seconds"] = time.process_time() - self.now.pop("processor")
        self.steps.append({**self.now, "ended": time.time()})
        self.now.clear()

    def trainer(self, trainer: Any) -> None:
        """Watch every Trainer of transformers in this process."""
        from transformers.trainer_callback import CallbackHandler

        training_step, on_step_end = trainer.training_step, CallbackHandler.on_step_end

        def timed_step(this: Any, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            mask, positions = inputs.get("attention_mask"), inputs["input_ids"].numel()
            self.micro_batch(positions if mask is None else int(mask.sum()), positions)
            return training_step(this, model, inputs, *args, **kwargs)

        def timed_end(this: Any, *args: Any, **kwargs: Any) -> Any:
            self.ended()
            return on_step_end(this, *args, **kwargs)

        trainer.training_step = timed_step
        CallbackHandler.on_step_end = timed_end

    def torch(self) -> None:
        """Watch what trains by a loop of its own: what it embeds, and the steps of its optimizer.

        Ids at the end of a row that are all alike count as one token, as nothing else says what is padding.
        """
        import torch
        from torch.nn.modules.module import register_module_forward_pre_hook
        from torch.optim.optimizer import register_optimizer_step_post_hook

        def embedded(module: Any, inputs: tuple[Any, ...]) -> None:
            if isinstance(module, torch.nn.Embedding) and torch.is_grad_enabled():
                ids = inputs[0]
                alike = (ids == ids[:, -1:]).flip(1).cumprod(1).sum()
                self.micro_batch(ids.numel() - int(alike) + len(ids), ids.numel())

        def stepped(*_: Any) -> None:
            self.ended()

        register_module_forward_pre_hook(embedded)
        register_optimizer_step_post_hook(stepped)


if __name__ == "__main__":
    main()
