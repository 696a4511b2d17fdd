"""Train the arms of a study again with other seeds, so that its report is about methods and not about single models.

    python recipes/repeat.py --study_dir runs/demo --seeds 1 2
    python recipes/repeat.py --study_dir runs/mistral_7b --seeds 1 2 --arms lora

Each run has the configuration of its arm (ARM/config.yaml), its launch and its learning rate, and is named ARM_seed1.
Interrupted, the same command continues. `make seeds` answers, scores and reports afterwards too.
"""

import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

from medsft.arguments import RepeatArguments
from medsft.cli import run
from medsft.config import parse
from medsft.errors import UserError
from medsft.files import read_json
from medsft.hardware.specs import Hardware, machine
from medsft.memory.launch_command import launcher, words
from medsft.memory.strategies import STRATEGIES
from medsft.records import TrainRecord
from medsft.text import method_of

SCRIPTS = Path(__file__).resolve().parent


def main() -> None:
    (args,) = parse([RepeatArguments])
    study, here = Path(args.study_dir), machine(args.study_dir)
    arms = chosen(study, args.arms)
    if any(seed < 0 for seed in args.seeds) or not args.seeds:
        raise UserError(f"seeds {args.seeds}: give whole numbers from 0, such as 1 2")
    for seed in args.seeds:
        for arm in arms:
            record: TrainRecord = read_json(study / arm / "train.json")
            if record["seed"] == seed:
                continue
            line = command(study, arm, seed, record, here)
            print(f"{arm}, seed {seed}: {shlex.join(line)}", flush=True)
            if status := subprocess.run(line).returncode:
                raise SystemExit(status)


def chosen(study: Path, asked: list[str]) -> list[str]:
    """The trained arms that are no repetitions themselves. Raises UserError for one that is not trained."""
    trained = sorted(path.parent.name for path in study.glob("*/train.json"))
    arms = asked or [arm for arm in trained if method_of(arm) == arm]
    missing = [arm for arm in arms if arm not in trained]
    if missing or not arms:
        known = ", ".join(trained) or "none; train one first, such as make lora"
        raise UserError(f"{study}: arm '{missing[0] if missing else ''}' is not trained; trained arms: {known}")
    return arms


def command(study: Path, arm: str, seed: int, record: TrainRecord, here: Hardware) -> list[str]:
    """The launch of one repetition."""
    adapters = bool(record["settings"].get("use_peft"))
    strategy = STRATEGIES[str(record["settings"].get("strategy") or ("lora" if adapters else "full"))]
    script = "sft_lora.py" if adapters else "sft_full.py"
    alone = "single_gpu.yaml" if record["processes"] == 1 else "multi_gpu.yaml" if here.gpus else "multi_cpu.yaml"
    count = min(here.gpus, record["processes"]) if here.gpus else record["processes"]
    counted = replace(here, gpus=count) if strategy.config or count > 1 else here  # one process beside several GPUs
    launch = words(launcher(strategy.config or alone, counted))
    if count > 1 and "--num_processes" not in launch:
        launch += ["--num_processes", str(count)]
    return [
        *launch,
        str(SCRIPTS / script),
        *("--config", str(study / arm / "config.yaml"), "--study_dir", str(study)),
        *("--seed", str(seed), "--arm", f"{arm}_seed{seed}"),
    ]


if __name__ == "__main__":
    run(main, __doc__, RepeatArguments)
