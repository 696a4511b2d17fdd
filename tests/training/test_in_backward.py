"""Full fine-tuning that updates each weight during the backward pass: learns as without, and continues."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import RECIPES, ROOT
from medsft.files import sha256_file
from training_runs import losses, needs_compiler, record

TORCHAO = ROOT / ".venv" / "test-only" / "torchao"
CONFIGS = RECIPES / "configs" / "mistral_7b"
DEVICE = ("--use_cpu", "true", "--dataloader_pin_memory", "false", "--host_reserve_gb", "0", "--host_floor_gb", "0")
SIZES = ("--max_steps", "4", "--save_steps", "2", "--logging_steps", "1", "--eval_strategy", "no",
         "--learning_rate", "3e-4",
         "--per_device_train_batch_size", "4", "--rows_per_step", "4", "--max_train_rows", "40")  # fmt: skip


def train(study: Path, model: Path, recipe: str, *more: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(RECIPES), str(TORCHAO.parent)])
    given = ["--config", str(CONFIGS / f"{recipe}.yaml"), "--study_dir", str(study), "--model_name_or_path", str(model)]
    return subprocess.run(
        [sys.executable, str(RECIPES / "sft_full.py"), *given, "--arm", recipe, *DEVICE, *SIZES, *more],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, timeout=600,
    )  # fmt: skip


@pytest.mark.slow
@needs_compiler
@pytest.mark.skipif(not TORCHAO.is_dir(), reason="torchao is not in .venv/test-only (make setup-dev)")
def test_it_learns_as_after_the_backward_pass_and_continues_from_a_checkpoint(
    tiny_study: Path, tiny_model: Path, tmp_path: Path
) -> None:
    study = tmp_path / "study"
    shutil.copytree(tiny_study / "data", study / "data")
    for recipe, clipping in (("full_8bit", ("--max_grad_norm", "0")), ("full_8bit_in_backward", ())):
        done = train(study, tiny_model, recipe, *clipping)
        assert done.returncode == 0, done.stderr[-2000:]
        assert record(study, recipe)["master_precision"] == "bfloat16, stochastic rounding"
    # which weights are rounded up is drawn in another order
    assert losses(study, "full_8bit_in_backward") == pytest.approx(losses(study, "full_8bit"), abs=0.02)
    arm = study / "full_8bit_in_backward"
    whole = losses(study, arm.name)
    (arm / "train.json").unlink()
    for name in ("checkpoint-4", "model"):
        shutil.rmtree(arm / name)
    again = train(study, tiny_model, arm.name)
    assert again.returncode == 0 and "continuing from" in again.stdout, again.stderr[-2000:]
    assert losses(study, arm.name) == pytest.approx(whole, abs=0.02)
    assert sha256_file(arm / "model" / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--rows_per_step", "8"), "cannot accumulate: --per_device_train_batch_size 8"),
        (("--max_grad_norm", "1"), "cannot clip"),
        (("--optimizer_in_backward", "false"), "does not go with optimizer_in_backward: false"),
    ],
)
@pytest.mark.skipif(not TORCHAO.is_dir(), reason="torchao is not in .venv/test-only (make setup-dev)")
def test_what_it_cannot_do_is_refused(
    tiny_study: Path, tiny_model: Path, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    shutil.copytree(tiny_study / "data", tmp_path / "data")
    done = train(tmp_path, tiny_model, "full_8bit_in_backward", *options)
    assert done.returncode == 2 and said in done.stderr, done.stderr[-2000:]
