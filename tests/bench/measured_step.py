"""Run a training step of a small model for real on the processor and print what it took, as one JSON line.

    python tests/bench/measured_step.py '{"model_type": "llama", ...}' '{"method": "lora", "on_gpu": false, ...}'

`allocated`: peak of live bytes by the events of torch's own allocator (its profiler sees every allocation, kernels'
scratch included), counted from before the model is made. Independent of the tracker under test.
"""

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "recipes"))

import torch  # noqa: E402
from torch.profiler import ProfilerActivity, profile  # noqa: E402
from transformers import AutoConfig  # noqa: E402

from medsft.memory.step_config import StepConfig  # noqa: E402
from medsft.memory.trace import model as traced_model  # noqa: E402
from medsft.memory.trace import nf4  # noqa: E402
from medsft.memory.trace.step import run_steps  # noqa: E402
from medsft.memory.trace.trackers import StorageTracker  # noqa: E402


class Untracked(StorageTracker):
    """Counts nothing: the real step must not pay for the tracker."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))

    def assign(self, tensors: object, category: str) -> None:
        pass


def main() -> None:
    values = json.loads(sys.argv[1])
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    step = StepConfig(**json.loads(sys.argv[2]))
    torch.manual_seed(0)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        model = traced_model.build(config, step, config.get_text_config().num_hidden_layers)
        nf4.materialize(model)
        traced_model.materialize(model)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0, 0.02) if parameter.is_floating_point() else parameter.zero_()
        run_steps(model, step, Untracked(), rounds=2)
    memory = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(memory, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    print(json.dumps({"allocated": peak}))


if __name__ == "__main__":
    main()
