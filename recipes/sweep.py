"""Find a learning rate for each arm: short runs of the same recipes, compared by their dev loss.

    python recipes/sweep.py --config_dir recipes/configs/demo --study_dir runs/demo
    python recipes/sweep.py --config_dir recipes/configs/mistral_7b --arms lora full_8bit --factors 0.5 1 2

LoRA and full fine-tuning want different rates, so one rate for all would favour an arm. Where the best is the lowest or
highest rate tried, the next one beyond it is tried too. Every rate is a run of its own
in STUDY_DIR/sweep/ARM_RATE on the study's own split; interrupted, the same command continues. Writes
STUDY_DIR/sweep/sweep.json. The weights are deleted: only the losses are wanted.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from medsft.arguments import SweepArguments
from medsft.cli import run
from medsft.config import parse
from medsft.errors import UserError
from medsft.files import write_json

if TYPE_CHECKING:
    from medsft.training.lr_sweep import Choice


def main() -> None:
    (arguments,) = parse([SweepArguments])

    from medsft.training import lr_sweep

    study = Path(arguments.study_dir)
    recipes = lr_sweep.recipes(Path(arguments.config_dir), arguments.arms)
    if any(factor <= 0 for factor in arguments.factors):
        raise UserError(f"factors {arguments.factors}: give positive numbers, such as 0.33 1 3")
    lr_sweep.share_split(study)
    arms: dict[str, lr_sweep.Choice] = {}
    for recipe in recipes:
        started = time.monotonic()
        rates = lr_sweep.rates(recipe, arguments.factors)
        runs = [lr_sweep.try_rate(recipe, study / "sweep", rate, arguments) for rate in rates]
        for _ in range(arguments.widenings):
            rate = lr_sweep.beyond(runs)
            if rate is None:
                break
            tried = lr_sweep.try_rate(recipe, study / "sweep", rate, arguments)
            runs = sorted([*runs, tried], key=lambda tried: tried["learning_rate"])
        arms[lr_sweep.arm_of(recipe)] = lr_sweep.choose(runs, round(time.monotonic() - started, 1))
        write_json(study / "sweep" / "sweep.json", {"arms": arms, "steps": arguments.steps, "seed": arguments.seed})
    print_table(arms)
    print(f"wrote {study / 'sweep' / 'sweep.json'}")


def print_table(arms: "dict[str, Choice]") -> None:
    """Every rate with its dev losses, and which one is chosen."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    heads = ("arm", "learning rate", "dev loss before", "lowest", "at step", "")
    table = Table(*heads, title="Learning rates by dev loss on the doctor's words", box=SIMPLE)
    for name, arm in arms.items():
        for tried in arm["runs"]:
            losses = ["" if loss is None else f"{loss:.4f}" for loss in (tried["start"], tried["lowest"])]
            chosen = "chosen" if tried["learning_rate"] == arm["chosen"] else tried["failed"] or ""
            table.add_row(name, f"{tried['learning_rate']:g}", *losses, str(tried["step"] or ""), chosen)
        table.add_section()
    Console().print(table)
    for name, arm in arms.items():
        if arm["note"]:
            print(f"{name}: {arm['note']}")


if __name__ == "__main__":
    run(main, __doc__, SweepArguments)
