"""Run a training script under a stopwatch: python tests/bench/watched.py RESULT.json SCRIPT.py|MODULE ARGUMENTS...

Whatever trains by transformers' Trainer is timed the same way, from outside: every step from the start of its first
micro-batch to the end of its optimizer step. RESULT.json: `first_step` [start, end] (seconds since this process began),
`steps` [{seconds, processor_seconds, tokens, positions}] (tokens without padding, positions with it), `resident` (peak
bytes).
"""

import importlib.abc
import importlib.util
import json
import resource
import runpy
import sys
import time
from pathlib import Path
from typing import Any

import psutil


def main() -> None:
    result, script = Path(sys.argv[1]), sys.argv[2]
    sys.argv = sys.argv[2:]
    sys.path.insert(0, str(Path(script).parent))
    sys.meta_path.insert(0, WhenImported(steps := []))
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
    measured = [{key: step[key] for key in ("seconds", "processor_seconds", "tokens", "positions")} for step in steps]
    first = [steps[0][end] - began for end in ("began", "ended")] if steps else None
    result.write_text(json.dumps({"first_step": first, "resident": peak, "steps": measured}))


class WhenImported(importlib.abc.MetaPathFinder):
    """Watch transformers' Trainer as soon as the script imports it, and no sooner: its start is measured too."""

    def __init__(self, steps: list[dict[str, Any]]) -> None:
        self.steps = steps

    def find_spec(self, name: str, *_: Any) -> Any:
        if name != "transformers.trainer":
            return None
        sys.meta_path.remove(self)
        spec: Any = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def load_and_watch(module: Any) -> None:
            load(module)
            watch(module.Trainer, self.steps)

        spec.loader.exec_module = load_and_watch
        return spec


def watch(trainer: Any, steps: list[dict[str, Any]]) -> None:
    """Let every Trainer of this process write its steps down."""
    from transformers.trainer_callback import CallbackHandler

    training_step, end = trainer.training_step, CallbackHandler.on_step_end
    now: dict[str, Any] = {}

    def timed_step(self: Any, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if not now:
            now.update(began=time.time(), tokens=0, positions=0)
            now.update(started=time.perf_counter(), processor=time.process_time())
        mask = inputs.get("attention_mask")
        now["positions"] += inputs["input_ids"].numel()
        now["tokens"] += int(inputs["input_ids"].numel() if mask is None else mask.sum())
        return training_step(self, model, inputs, *args, **kwargs)

    def timed_end(self: Any, *args: Any, **kwargs: Any) -> Any:
        now["seconds"] = time.perf_counter() - now.pop("started")
        now["processor_seconds"] = time.process_time() - now.pop("processor")
        steps.append({**now, "ended": time.time()})
        now.clear()
        return end(self, *args, **kwargs)

    trainer.training_step = timed_step
    CallbackHandler.on_step_end = timed_end


if __name__ == "__main__":
    main()
