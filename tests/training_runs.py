"""What the training tests share: a short run of a demo recipe on the tiny model, and its record."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import RECIPES, ROOT, run_here, run_script
from medsft.distributed import deepspeed_ops

DEMO = RECIPES / "configs" / "demo"
ONE_PASS = ("--per_device_train_batch_size", 4, "--gradient_accumulation_steps", 1)  # soonest, with a tiny model
SIX_STEPS = ("--max_steps", 6, "--max_train_rows", 24, "--max_dev_rows", 4, "--eval_steps", 3, "--save_steps", 2)
SHORT = ("--host_reserve_gb", 0, *SIX_STEPS, *ONE_PASS)  # other tests may hold the memory to spare
ACCELERATE = (str(Path(sys.executable).parent / "accelerate"), "launch")
ZERO3 = (*ACCELERATE, "--config_file", str(ROOT / "accelerate_configs" / "zero3_offload.yaml"))
needs_libaio = pytest.mark.skipif(not deepspeed_ops.has_libaio(), reason="NVMe offload needs libaio.h (libaio-dev)")
needs_compiler = pytest.mark.skipif(
    bool(deepspeed_ops.missing_tools()), reason=f"missing {deepspeed_ops.missing_tools()}"
)


def command(study: Path, model: Path, recipe: str, arm: str, *more: object) -> list[str]:
    """The script of a demo recipe and its flags."""
    script = "sft_full.py" if recipe.startswith("full") else "sft_lora.py"
    common = ("--config", DEMO / f"{recipe}.yaml", "--study_dir", study, "--model_name_or_path", model, "--arm", arm)
    return [script, *map(str, (*common, *SHORT, *more))]


def train(study: Path, model: Path, recipe: str, arm: str, *more: object, launcher: tuple[str, ...] = ()) -> Any:
    """Six steps of a demo recipe on the tiny model; under `launcher`, or in this process."""
    words = command(study, model, recipe, arm, *more)
    return run_script(*words, launcher=launcher) if launcher else run_here(*words)


def started(words: list[str], launcher: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """The same as a process of its own that the test can stop."""
    words = [*(launcher or (sys.executable,)), str(RECIPES / words[0]), *words[1:]]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def record(study: Path, arm: str) -> dict[str, Any]:
    return json.loads((study / arm / "train.json").read_text())


def losses(study: Path, arm: str) -> list[float]:
    return [row["loss"] for row in record(study, arm)["history"] if "loss" in row]
