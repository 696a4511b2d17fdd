"""Run a training script under a stopwatch: python tests/bench/watched.py RESULT.json SCRIPT.py|MODULE ARGUMENTS...

Whatever trains by transformers' Trainer is timed the same way, from outside: every step from the start of its first
micro-batch to the end of its optimizer step. RESULT.json: `first_step` (seconds since this process began), `steps`
[{seconds, processor_seconds, tokens, positions}] (tokens without padding, positions with it), `resident` (peak bytes).
"""

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
    watch(steps := [])
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
    first = steps[0]["ended"] - began if steps else None
    result.write_text(json.dumps({"first_step": first, "resident": peak, "steps": measured}))


def watch(steps: list[dict[str, Any]]) -> None:
    """Let every Trainer of this process write its steps down."""
    from transformers import Trainer, trainer_callback

    training_step, end = Trainer.training_step, trainer_callback.CallbackHandler.on_step_end
    now: dict[str, Any] = {}

    def timed_step(self: Any, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if not now:
            now.update(started=time.perf_counter(), processor=time.process_time(), tokens=0, positions=0)
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

    Trainer.training_step = timed_step
    trainer_callback.CallbackHandler.on_step_end = timed_end


if __name__ == "__main__":
    main()
