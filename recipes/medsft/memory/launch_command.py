"""Pick the best full fine-tuning strategy that fits: by quality first, then by cost.

    python -m medsft.memory.launch_command recipes/configs/mistral_7b runs/mistral_7b

Prints the command that `make fft` runs. Without a plan, or where the plan says that none fits, it is full_8bit (the
demo's: full), whose own preflight checks then decide.
"""

import os
import sys
from pathlib import Path

from medsft.cli import run
from medsft.config import CONFIGS
from medsft.errors import UserError
from medsft.files import read_json
from medsft.memory.strategies import ORDER, ORDER_ON_CPU, STRATEGIES, recipe_of
from medsft.records import Plan

IN_ONE_PROCESS = ("cpu.yaml", "single_gpu.yaml")  # started without a launcher, which would hide the exit status


def main() -> None:
    if len(sys.argv) != 3:
        raise UserError("give the folder of the recipes and that of the study")
    print(command(Path(sys.argv[1]), Path(sys.argv[2])))


def command(recipes: Path, study: Path) -> str:
    """The launch line, up to the script's own options. Raises UserError where the folder has no such recipe."""
    name, config = choose(recipes, study)
    return launch_line(name, config, recipes)


def launch_line(name: str, config: str, recipes: Path) -> str:
    """How a strategy is launched with this folder's recipe; with Mistral-7B's and another model where it has none."""
    recipe, model = recipe_of(recipes, name), ""
    if recipe is None:
        recipe, model = (
            recipe_of(Path(os.path.relpath(CONFIGS / "mistral_7b")), name),
            " --model_name_or_path MODEL --study_dir runs/NAME",
        )
    script = "sft_full.py" if STRATEGIES[name].trains_all else "sft_lora.py"
    launcher = "python" if config in IN_ONE_PROCESS else f"accelerate launch --config_file accelerate_configs/{config}"
    return f"{launcher} recipes/{script} --config {recipe}{model}"


def choose(recipes: Path, study: Path) -> tuple[str, str]:
    """(strategy, accelerate config): the first that fits, or the one to try where none is known to fit."""
    path = study / "plan.json"
    if path.is_file():
        plan: Plan = read_json(path)
        order = ORDER if plan["hardware"]["gpus"] else ORDER_ON_CPU
        fitting = {row["name"]: row["accelerate_config"] for row in plan["strategies"] if row["fits"]}
        for name in [n for n in order if n in fitting and recipe_of(recipes, n)]:
            if name.startswith("full"):
                print(f"{name}: {order[name]} ({path})", file=sys.stderr)
                return name, fitting[name]
    name = next((n for n in ("full_8bit", "full_fp32", "full") if recipe_of(recipes, n)), "")
    if not name:
        raise UserError(f"{recipes} has no recipe for full fine-tuning")
    why = "the plan has none that fits" if path.is_file() else "no plan yet: make plan"
    print(f"{name}: {why}", file=sys.stderr)
    return name, "single_gpu.yaml"


if __name__ == "__main__":
    run(main, __doc__)
