"""Where the time of a training step on this processor goes, by operator: the shipped script under torch's profiler.

python tests/bench/operators.py lora qlora full
"""

import json
import os
import re
import runpy
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
STEPS = range(3, 6)  # measured, counted from 0: the first ones allocate what the others use again
# self time of an operator belongs to the first group whose pattern is in its name
GROUPS = {
    "products": r"::(add)?mm_?$|::linear|bitsandbytes::gemv|dequantize|gemm_4bit",
    "attention": r"::(badd)?bmm|::_softmax|scaled_dot",
    "the loss": r"_log_softmax|::exp_|gather|scatter_add|nll",
    "optimizer": r"adam|::_foreach|Optimizer",
    "element by element": r"::",
}


def measure(methods: list[str]) -> dict[str, Any]:
    """{method: {'seconds' of a step, 'shares' of it by group; what no operator takes is Python}}."""
    found = {}
    for method in methods:
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "operators.json"
            command = [sys.executable, __file__, "--one", method, folder]
            subprocess.run(
                command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(RECIPES)}
            )
            found[method] = json.loads(output.read_text())
    return found


def profile_one(method: str, folder: Path) -> None:
    """Train with the demo's recipe in this process, and write the operators of some steps."""
    from torch.profiler import ProfilerActivity, profile

    sys.path.insert(0, str(RECIPES))
    from medsft.training import trainer

    profiler, wall, usual = profile(activities=[ProfilerActivity.CPU]), [0.0], trainer.RecipeTrainer.training_step

    def training_step(self: Any, *args: Any, **kwargs: Any) -> Any:
        step = self.state.global_step
        if step == STEPS.start and not wall[0]:
            profiler.start()
            wall[0] = time.perf_counter()
        elif step == STEPS.stop and len(wall) == 1:
            wall.append(time.perf_counter())
            profiler.stop()
        return usual(self, *args, **kwargs)

    trainer.RecipeTrainer.training_step = training_step  # type: ignore[method-assign]
    script = RECIPES / ("sft_full.py" if method == "full" else "sft_lora.py")
    sys.argv = [
        str(script),
        "--config",
        str(RECIPES / "configs" / "demo" / f"{method}.yaml"),
        "--study_dir",
        str(folder),
    ]
    sys.argv += ["--max_steps", str(STEPS.stop + 1), "--eval_strategy", "no", "--save_strategy", "no"]
    runpy.run_path(str(script), run_name="__main__")
    seconds = wall[1] - wall[0]
    own = {event.key: event.self_cpu_time_total / 1e6 for event in profiler.key_averages()}
    result = {"seconds": seconds / len(STEPS), "shares": shares(own, seconds)}
    (folder / "operators.json").write_text(json.dumps(result))


def shares(own: dict[str, float], seconds: float) -> dict[str, float]:
    """Share of `seconds` by group of operators, from each operator's own seconds."""
    sums = dict.fromkeys(GROUPS, 0.0)
    for name, value in own.items():
        if group := next((group for group, pattern in GROUPS.items() if re.search(pattern, name)), None):
            sums[group] += value
    return {**{group: value / seconds for group, value in sums.items()}, "Python": 1 - sum(sums.values()) / seconds}


def table(found: dict[str, Any]) -> str:
    """Markdown: a row a method."""
    heads = [*GROUPS, "Python"]
    lines = [f"| | seconds a step | {' | '.join(heads)} |", "|---|--:|" + "--:|" * len(heads)]
    for method, one in ((name, one) for name, one in found.items() if isinstance(one, dict)):
        cells = " | ".join(f"{one['shares'][group]:.0%}" for group in heads)
        lines.append(f"| {method} | {one['seconds']:.2f} | {cells} |")
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        profile_one(sys.argv[2], Path(sys.argv[3]))
    else:
        print(table(measure(sys.argv[1:])))
