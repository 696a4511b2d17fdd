"""Pick the best full fine-tuning strategy that fits: by quality first, then by cost.

    python -m medsft.memory.launch_command recipes/configs/mistral_7b runs/mistral_7b

Prints the command that `make fft` runs. What the plan says fits, but is more than is free now, is passed over. Without
a plan, or where none fits, it is full_8bit (the demo's: full), whose own preflight checks then decide.
"""

import os
import shlex
import sys
from pathlib import Path

from medsft.cli import run
from medsft.config import CONFIGS, read_config
from medsft.distributed.deepspeed_ops import missing_tools
from medsft.errors import UserError
from medsft.files import read_json
from medsft.hardware.specs import Hardware, machine
from medsft.memory.plan_records import Plan
from medsft.memory.planner import short_now
from medsft.memory.strategies import ORDER, ORDER_ON_CPU, STRATEGIES, recipe_of

IN_ONE_PROCESS = ("cpu.yaml", "single_gpu.yaml")  # started without a launcher, which would hide the exit status


def main() -> None:
    if len(sys.argv) != 3:
        raise UserError("give the folder of the recipes and that of the study")
    print(command(Path(sys.argv[1]), Path(sys.argv[2]), machine(sys.argv[2])))


def command(recipes: Path, study: Path, here: Hardware) -> str:
    """The launch line, up to the script's own options. Raises UserError where the folder has no such recipe."""
    return launch_line(*choose(recipes, study, here), recipes, here)


def launch_line(name: str, config: str, recipes: Path, hardware: Hardware) -> str:
    """How a strategy is launched with this folder's recipe; with Mistral-7B's and another model where it has none."""
    recipe, model = recipe_of(recipes, name), ""
    if recipe is None:
        recipe, model = (
            recipe_of(Path(os.path.relpath(CONFIGS / "mistral_7b")), name),
            " --model_name_or_path MODEL --study_dir runs/NAME",
        )
    script = "sft_full.py" if STRATEGIES[name].trains_all else "sft_lora.py"
    return f"{launcher(config, hardware)} recipes/{script} --config {recipe}{model}"


def launcher(config: str, hardware: Hardware) -> str:
    """With as many processes as the plan counted on: the files name two, and accelerate does not look for more.

    One process beside several GPUs needs the launcher too, without which it would be refused.
    """
    if config == "single_gpu.yaml" and hardware.gpus > 1:
        return f"accelerate launch --config_file accelerate_configs/{config}"
    if config in IN_ONE_PROCESS:
        return "python"
    line = f"accelerate launch --config_file accelerate_configs/{config}"
    if hardware.nodes > 1:
        line += f" --num_machines {hardware.nodes} --machine_rank RANK --main_process_ip HOST --main_process_port 29500"
        if _by_ssh(config):
            line += " --deepspeed_multinode_launcher standard"
    if hardware.ranks > 1 and "offload" in config:  # each process on the cores beside its GPU
        line += " --enable_cpu_affinity"
    return f"{line} --num_processes {hardware.ranks}" if hardware.ranks > 1 else line


def _by_ssh(config: str) -> bool:
    """Whether accelerate would start DeepSpeed's launcher, which connects to the machines of a hostfile by pdsh."""
    text = (CONFIGS.parent.parent / "accelerate_configs" / config).read_text(encoding="utf-8")
    return "distributed_type: DEEPSPEED" in text and "deepspeed_multinode_launcher: standard" not in text


def words(line: str) -> list[str]:
    """A launch line as words, its program the one of this environment."""
    start, *rest = shlex.split(line)
    return [sys.executable if start == "python" else str(Path(sys.executable).parent / start), *rest]


def choose(recipes: Path, study: Path, here: Hardware) -> tuple[str, str]:
    """(strategy, accelerate config): the first that fits what is free now, or the one to try where none is known to."""
    path = study / "plan.json"
    if path.is_file():
        plan: Plan = read_json(path)
        order = ORDER if plan["hardware"]["gpus"] else ORDER_ON_CPU
        # what a recipe for the processor needs, a plan with GPUs does not say
        on_cpu = plan["hardware"]["gpus"] and _on_cpu(recipe_of(recipes, "full"))
        rows = {row["name"]: row for row in plan["strategies"] if row["fits"] and not on_cpu}
        for name in [n for n in order if n in rows and n.startswith("full") and recipe_of(recipes, n)]:
            if STRATEGIES[name].optimizer in ("cpu", "nvme") and STRATEGIES[name].engine != "fsdp2" and missing_tools():
                print(f"{name}: passed over, DeepSpeed needs {', '.join(missing_tools())} to offload", file=sys.stderr)
                continue
            if short := short_now(rows[name], here):
                print(f"{name}: passed over, it {short} now", file=sys.stderr)
                continue
            print(f"{name}: {order[name]} ({path})", file=sys.stderr)
            return name, rows[name]["accelerate_config"]
    name = next((n for n in ("full_8bit", "full_fp32", "full") if recipe_of(recipes, n)), "")
    if not name:
        raise UserError(f"{recipes} has no recipe for full fine-tuning")
    why = "the plan has none that fits" if path.is_file() else "no plan yet: make plan"
    print(f"{name}: {why}", file=sys.stderr)
    return name, "cpu.yaml" if _on_cpu(recipe_of(recipes, name)) else "single_gpu.yaml"


def _on_cpu(recipe: Path | None) -> bool:
    return recipe is not None and bool(read_config(["--config", str(recipe)]).get("use_cpu"))


if __name__ == "__main__":
    run(main, __doc__)
