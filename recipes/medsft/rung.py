"""Which rung of full fine-tuning a machine climbs: the best in quality, then in cost, of those that the plan says fit.

    python -m medsft.rung recipes/configs/mistral_7b runs/mistral_7b     # prints the command that `make fft` runs

Without a plan, or where it says that none fits, it is full_8bit (the demo's: full), whose own guards then decide.
"""

import sys
from pathlib import Path

from medsft.cli import UserError, run
from medsft.files import read_json
from medsft.ladder import ORDER, ORDER_ON_CPU

# Recipes are named after their strategy but for these.
RECIPES = {"full_zero3_offload": "full_offload", "full_zero3_offload_bf16": "full_offload_bf16"}
IN_ONE_PROCESS = ("cpu.yaml", "single_gpu.yaml")  # started without a launcher, which would hide the exit status


def main() -> None:
    if len(sys.argv) != 3:
        raise UserError("give the folder of the recipes and that of the study")
    print(command(Path(sys.argv[1]), Path(sys.argv[2])))


def command(recipes: Path, study: Path) -> str:
    """The launch line, up to the script's own options. Raises UserError where the folder has no such recipe."""
    name, config = choose(recipes, study)
    launcher = "python" if config in IN_ONE_PROCESS else f"accelerate launch --config_file accelerate_configs/{config}"
    return f"{launcher} recipes/sft_full.py --config {recipes / recipe(name)}"


def choose(recipes: Path, study: Path) -> tuple[str, str]:
    """(strategy, accelerate config): the first that fits, or what is tried where none is known to."""
    path = study / "plan.json"
    if path.is_file():
        plan = read_json(path)
        order = ORDER if plan["hardware"]["gpus"] else ORDER_ON_CPU
        fitting = {row["name"]: row["accelerate_config"] for row in plan["strategies"] if row["fits"]}
        for name in [n for n in order if n in fitting and (recipes / recipe(n)).is_file()]:
            if name.startswith("full"):
                print(f"{name}: {order[name]} ({path})", file=sys.stderr)
                return name, fitting[name]
    name = next((n for n in ("full_8bit", "full") if (recipes / recipe(n)).is_file()), "")
    if not name:
        raise UserError(f"{recipes} has no recipe for full fine-tuning")
    why = "the plan has none that fits" if path.is_file() else "no plan yet: make plan"
    print(f"{name}: {why}", file=sys.stderr)
    return name, "single_gpu.yaml"


def recipe(name: str) -> str:
    """The file of a strategy's recipe."""
    return f"{RECIPES.get(name, name)}.yaml"


if __name__ == "__main__":
    run(main, __doc__)
