"""What share of a GPU's matrix peak Mistral-7B reaches on paper, by the choices of micro-batch and recomputation.

python tests/bench/calculated_step.py                       # prints the table of docs/speed.md
python tests/bench/calculated_step.py --paste docs/speed.md # writes it there
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "recipes"))

from medsft.hardware.specs import Hardware, described, machine  # noqa: E402
from medsft.memory import choices, planner  # noqa: E402
from medsft.memory.step_config import StepSettings  # noqa: E402
from medsft.memory.step_time import FRACTION_OF_PEAK, seconds_per_step  # noqa: E402
from medsft.memory.strategies import STRATEGIES  # noqa: E402
from medsft.models.parameter_counts import count_parameters, known_config  # noqa: E402
from medsft.reporting.plan.docs_plan_table import replace_between  # noqa: E402

BEGIN = "<!-- calculated: python tests/bench/calculated_step.py --paste docs/speed.md -->"
END = "<!-- end of calculated -->"
GPUS = ("a100-80gb", "l40s", "rtx4090", "h200")
ARMS = {"LoRA": ("lora",), "full": ("full", "full_8bit", "full_zero3_offload")}  # the first that fits
MODEL, HOST, ROWS, BATCH = "mistralai/Mistral-7B-Instruct-v0.2", "256GB", 16, 4
LONGEST, MEAN = 371, 279  # tokens of a row: of the step that make gpu-check trained on the H200
HEADS = ("GPU", "arm", "rows at once, recomputes", "GB needed", "s a step", "of the peak", "what takes the rest")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paste", help="a page with the marks between which the table stands")
    args = parser.parse_args()
    text = table()
    print(text)
    if args.paste:
        replace_between(Path(args.paste), BEGIN, END, f"\n{text}\n")


def table() -> str:
    """Markdown: a line for each GPU and arm."""
    machines = [replace(described(machine("."), gpu, 1, HOST, "2TB"), cpus=16) for gpu in GPUS]
    found = [row(here, arm, names) for here in machines for arm, names in ARMS.items()]
    lines = [HEADS, ("---",) * len(HEADS), *found]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def row(here: Hardware, arm: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """The first of the strategies that fits, as the plan and the run choose for it."""
    config = known_config(MODEL)
    assert config is not None and here.tflops
    parameters, layers = count_parameters(config), config.get_text_config().num_hidden_layers
    step: StepSettings = {"lora_r": 16, "lora_dropout": 0.05 if arm == "LoRA" else 0.0}
    for name in names:
        # with an engine every micro-batch moves the weights again, so the largest is taken (--auto_batch)
        own = [(ROWS, True)] if STRATEGIES[name].engine else []
        pairs = own or choices.candidates(BATCH, True, ROWS, grows=True, leaves_out=True)
        chosen = choices.fastest(name, config, here, pairs, ROWS, LONGEST, MEAN, **step)
        changed: StepSettings = {**step, "checkpointing": chosen.checkpointing, "accumulates": chosen.batch < ROWS}
        needed = planner.predict(name, config, here, chosen.batch, LONGEST, **changed)["device_bytes"]
        if needed <= here.device_bytes:
            break
    full, tokens = STRATEGIES[name].trains_all, ROWS * MEAN
    useful = (4 + 2 * full) * parameters * tokens / (here.tflops * 1e12)  # seconds at the whole of the peak
    if STRATEGIES[name].engine:
        moved = STRATEGIES[name].pcie * ROWS // chosen.batch
        seconds = seconds_per_step(parameters, full, tokens, 2 * parameters, moved, 0, here)
        assert seconds is not None
        rest = "weights, gradients and the optimizer on the other side of PCIe"
    else:
        seconds = choices.step_seconds(name, parameters, layers, here, *chosen[:2], ROWS, MEAN)
        computing = useful / FRACTION_OF_PEAK * (1 + 2 * chosen.checkpointing / (4 + 2 * full))
        rest = f"products at {FRACTION_OF_PEAK:.0%} of the peak" + (", recomputation" if chosen.checkpointing else "")
        rest += f", launches ({1 - computing / seconds:.0%} of the time)" if seconds > 1.01 * computing else ""
    recomputes = "yes" if chosen.checkpointing else "no"
    at, said = f"{chosen.batch}, {recomputes}", arm if len(names) == 1 else name
    return here.gpu, said, at, f"{needed / 1e9:.1f}", f"{seconds:.2f}", f"{useful / seconds:.0%}", rest


if __name__ == "__main__":
    main()
