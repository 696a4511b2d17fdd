"""recipes/plan_memory.py from the command line."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open

import plan_memory
from medsft.cli import run
from medsft.hardware import matmul_benchmark
from medsft.hardware.specs import machine
from medsft.source_study.memory_claims import STUDY_MODEL

SCRIPT = Path(plan_memory.__file__)
A100 = ["--gpu", "a100-80gb", "--gpus", "1", "--host", "167GB", "--disk", "2TB"]
CATEGORIES = {"weights", "gradients", "optimizer", "activations", "temporary", "context", "other"}


@pytest.fixture
def plan(tmp_path, monkeypatch, capsys):
    """Run the script in this process: (exit status, plan.json or None, stdout, stderr)."""

    def call(*arguments: str) -> tuple[int, dict | None, str, str]:
        monkeypatch.setattr(sys, "argv", ["plan_memory.py", "--output_dir", str(tmp_path), *arguments])
        status = 0
        try:
            run(plan_memory.main, plan_memory.__doc__)
        except SystemExit as stop:
            status = stop.code
        out, err = capsys.readouterr()
        path = tmp_path / "plan.json"
        return status, json.loads(path.read_text(encoding="utf-8")) if path.exists() else None, out, err

    return call


@pytest.mark.slow
def test_the_study_on_its_machine(tmp_path):
    command = [
        sys.executable,
        SCRIPT,
        "--model_name_or_path",
        STUDY_MODEL,
        *A100,
        "--output_dir",
        tmp_path / "a",
        "--as_published",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a" / "plan.png").read_bytes().startswith(b"\x89PNG")
    result = json.loads((tmp_path / "a" / "plan.json").read_text(encoding="utf-8"))
    assert result["model"]["parameters"] == 7_241_732_096 and result["model"]["lora_parameters"] == 41_943_040
    assert result["hardware"]["host_bytes"] == 167 * 10**9
    fits = {row["name"]: row["fits"] for row in result["strategies"]}
    assert fits["full_zero3_offload"] and fits["full"] and not fits["full_fp32"]
    assert fits[result["recommended"]] and result["recommended_reason"]
    for row in result["strategies"]:
        assert set(row["device_bytes"]) == CATEGORIES and row["accelerate_config"].endswith(".yaml")
        assert all(
            isinstance(size, int) for size in [*row["device_bytes"].values(), row["host_bytes"], row["disk_bytes"]]
        )
    for text in ("recommended: lora", "84.0 GB", "98.0 GB", "120.0 GB", "115.9 GB", "43.5 GB", "58.0 GB", "0.579 %"):
        assert text in done.stdout


def test_a_laptop_and_a_second_run(plan, tmp_path, tiny_model):
    laptop = ("--model_name_or_path", str(tiny_model), "--gpu", "none", "--host", "24GB", "--disk", "100GB")
    status, first, out, _ = plan(*laptop)
    assert status == 0 and first["recommended"] == "full" and first["hardware"]["gpus"] == 0
    assert "run it with: python recipes/sft_full.py" in out and "already done" not in out
    written = (tmp_path / "plan.json").stat().st_mtime_ns
    status, second, out, _ = plan(*laptop)
    assert status == 0 and "already done" in out and "recommended: full" in out
    assert (tmp_path / "plan.json").stat().st_mtime_ns == written and second == first
    _, third, _, _ = plan(*laptop, "--max_length", "1024")
    assert third["fingerprint"] != first["fingerprint"]


def test_a_processor_slow_in_bfloat16_is_planned_in_float32(plan, monkeypatch):
    """What `training.auto_options` chooses is planned, but not for a machine in words, of which nothing is known."""
    needs = {}
    for bf16 in (True, False):
        monkeypatch.setattr(matmul_benchmark, "prefers_bfloat16", lambda fast=bf16: fast)
        _, here, _, _ = plan("--gpu", "none", "--per_device_train_batch_size", "2")
        needs[bf16] = {row["name"]: sum(row["device_bytes"].values()) for row in here["strategies"]}
        assert here["inputs"].get("dtype") == (None if bf16 else "float32")
    weights_of_lora = 4 * here["model"]["parameters"]
    assert needs[False]["lora"] - needs[True]["lora"] > 0.9 * weights_of_lora / 2
    assert needs[False]["full_zero3_offload"] == needs[True]["full_zero3_offload"]
    assert plan("--gpu", "none", "--host", "64GB")[1]["inputs"].get("dtype") is None


def test_nothing_fits(plan, tiny_model):
    for _ in range(2):  # also when plan.json is already there
        status, result, out, err = plan("--model_name_or_path", str(tiny_model), "--gpu", "none", "--host", "1GB")
        assert status == 3 and result["recommended"] is None and "recommended:" not in out
        assert err.startswith("does not fit: ") and err.count("\n") == 1 and "qlora" in err and "host 1.0 GB" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--gpu", "a100-8gb"], "a100-80gb"),
        (["--host", "lots"], "167GB"),
        (["--gpu", "none", "--gpus", "2"], "--gpus 2"),
        (["--max_length", "0"], "--max_length"),
        (["--lora_r", "-1"], "--lora_r"),
        (["--per_device_train_batch_size", "0"], "--per_device_train_batch_size"),
        (["--hosts", "1GB"], "did you mean 'host'"),
        (["--model_name_or_path", "./no/such/folder"], "no/such/folder"),
    ],
)
def test_mistakes_are_one_line(plan, arguments, words):
    status, result, _, err = plan(*arguments)
    assert status == 2 and result is None
    assert err.startswith("error: ") and err.count("\n") == 1 and words in err


def test_a_local_folder(plan, tiny_model):
    machine = ("--gpu", "l4", "--host", "32GB", "--disk", "1TB")
    status, result, _, _ = plan("--model_name_or_path", str(tiny_model), *machine)
    with safe_open(tiny_model / "model.safetensors", "pt") as weights:
        written = sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    assert status == 0 and result["model"]["parameters"] == written and result["recommended"] == "full_fp32"


def test_the_machine_is_read(plan, tiny_model):
    _, result, _, _ = plan("--model_name_or_path", str(tiny_model))
    assert result["hardware"]["host_bytes"] == machine(".").host_bytes


def test_help_is_complete():
    text = subprocess.run([sys.executable, SCRIPT, "--help"], capture_output=True, text=True, check=True).stdout
    assert "--as_published" in text and "Exit status 3" in text


def test_what_a_recipe_leaves_open_is_the_plans_own_and_its_length_is_asked_for(plan, tmp_path, tiny_model):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        f"arm: mine\nstrategy: lora\nuse_peft: true\nmodel_name_or_path: {tiny_model}\nuse_cpu: true\n"
        "max_length: null\noutput_dir: null\n"
    )
    small = ("--config", str(recipe), "--gpu", "none", "--host", "24GB", "--disk", "100GB", "--check_only", "true")
    status, _, _, err = plan(*small)
    assert status == 2 and err.count("\n") == 1
    assert "mine.yaml: max_length: null cuts no row; give the plan the longest: --max_length" in err
    assert plan(*small, "--max_length=16")[0] == 0


def test_an_update_in_the_backward_pass_is_planned_for_one_process(plan):
    recipe = SCRIPT.parent / "configs" / "mistral_7b" / "full_8bit_in_backward.yaml"
    status, _, _, err = plan("--config", str(recipe), "--gpu", "h200", "--gpus", "2", "--host", "1TB", "--disk", "2TB")
    assert status == 3 and "needs one GPU (--gpus 1)" in err
