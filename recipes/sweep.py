"""Find a learning rate for each arm: short runs of the same recipes, compared by their dev loss.

    python recipes/sweep.py --config_dir recipes/configs/demo --study_dir runs/demo
    python recipes/sweep.py --config_dir recipes/configs/mistral_7b --arms lora full_8bit --factors 0.5 1 2

LoRA and full fine-tuning want different rates, so one rate for all would favour an arm. Every rate is trained for
--first_steps; where the best is the lowest or highest rate tried, the next one beyond it is tried too; the two best are
trained for all --steps. Every trial is a run of its own in STUDY_DIR/sweep on the study's own split; interrupted, the
same command continues. Writes STUDY_DIR/sweep/sweep.json. The weights are deleted: only the losses are wanted.
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
    from medsft.training.tuning.lr_sweep import Choice


def main() -> None:
    (arguments,) = parse([SweepArguments])

    from medsft.training.tuning import lr_sweep

    study = Path(arguments.study_dir)
    recipes = lr_sweep.recipes(Path(arguments.config_dir), arguments.arms, study)
    if any(factor <= 0 for factor in arguments.factors):
        raise UserError(f"factors {arguments.factors}: give positive numbers, such as 0.33 1 3")
    lr_sweep.share_split(study)
    arms: dict[str, lr_sweep.Choice] = {}
    for recipe in recipes:
        started = time.monotonic()
        runs = lr_sweep.sweep(recipe, study / "sweep", arguments)
        arms[lr_sweep.arm_of(recipe)] = lr_sweep.choose(runs, round(time.monotonic() - started, 1))
        write_json(study / "sweep" / "sweep.json", {"arms": arms, "steps": arguments.steps, "seed": arguments.seed})
    print_table(arms)
    print(f"wrote {study / 'sweep' / 'sweep.json'}")


def print_table(arms: "dict[str, Choice]") -> None:
    """Every rate with its dev losses, and which one is chosen."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    from medsft.training.tuning import lr_sweep

    heads = ("arm", "learning rate", "steps", "dev loss before", "lowest", "at step", "")
    table = Table(*heads, title="Learning rates by dev loss on the doctor's words", box=SIMPLE)
    for name, arm in arms.items():
        for tried in arm["runs"]:
            losses = ["" if loss is None else f"{loss:.4f}" for loss in (tried["start"], tried["lowest"])]
            chosen = "chosen" if tried is lr_sweep.best(arm["runs"]) else tried["failed"] or ""
            table.add_row(
                name, f"{tried['learning_rate']:g}", str(tried["steps"]), *losses, str(tried["step"] or ""), chosen
            )
        table.add_section()
    Console().print(table)
    for name, arm in arms.items():
        if arm["note"]:
            print(f"{name}: {arm['note']}")


if __name__ == "__main__":
    run(main, __doc__, SweepArguments)
