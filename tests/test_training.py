"""Training as users start it, on a model of 3 million weights: every arm, ZeRO-3 offload, interrupted, refused."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import RECIPES, ROOT, run_script
from medsft import operators

DEMO = RECIPES / "configs" / "demo"
pytestmark = pytest.mark.slow
SHORT = ("--max_steps", 6, "--max_train_rows", 24, "--max_dev_rows", 4, "--eval_steps", 3, "--save_steps", 2)
ACCELERATE = (str(Path(sys.executable).parent / "accelerate"), "launch")
ZERO3 = (*ACCELERATE, "--config_file", str(ROOT / "accelerate_configs" / "zero3_offload.yaml"))
needs_compiler = pytest.mark.skipif(bool(operators.missing_tools()), reason=f"missing {operators.missing_tools()}")


def train(study: Path, model: Path, recipe: str, arm: str, *more: object, launcher: tuple[str, ...] = ()) -> Any:
    script = "sft_full.py" if recipe.startswith("full") else "sft_lora.py"
    common = ("--config", DEMO / f"{recipe}.yaml", "--study_dir", study, "--model_name_or_path", model, "--arm", arm)
    return run_script(script, *common, *SHORT, *more, launcher=launcher)


def record(study: Path, arm: str) -> dict[str, Any]:
    return json.loads((study / arm / "train.json").read_text())


def losses(study: Path, arm: str) -> list[float]:
    return [row["loss"] for row in record(study, arm)["history"] if "loss" in row]


@pytest.fixture(scope="module")
def study(tiny_study: Path) -> Path:
    return tiny_study


@pytest.mark.parametrize("recipe", ["lora", "qlora", "full"])
def test_an_arm_trains_and_records_what_it_did(study: Path, tiny_model: Path, recipe: str) -> None:
    done = train(study, tiny_model, recipe, recipe, "--learning_rate", "1e-2")
    assert done.returncode == 0, done.stderr[-2000:]
    trained = record(study, recipe)
    evals = [row["eval_loss"] for row in trained["history"] if "eval_loss" in row]
    assert [row["step"] for row in trained["history"] if "eval_loss" in row] == [0, 3, 6]
    assert evals[-1] < evals[0]
    assert trained["steps"] == 6
    assert 0 < trained["answer_tokens_seen"] < trained["tokens_seen"]
    assert trained["peak_memory"]["host_bytes"] > 1e8
    assert trained["quantization"] == ("nf4" if recipe == "qlora" else None)
    total = 3_322_432 - 49_152 * 64 + 49_152 * 64  # embeddings are tied and counted once
    assert (trained["trainable_percent"] == 100) == (recipe == "full")
    assert trained["total_parameters"] >= total - 200_000

    saved = study / recipe / ("model" if recipe == "full" else "adapter")
    names = {path.name for path in saved.iterdir()}
    assert {"tokenizer.json", "chat_template.jinja"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]
    assert "{%- generation" not in (saved / "chat_template.jinja").read_text()

    again = train(study, tiny_model, recipe, recipe, "--learning_rate", "1e-2")
    assert again.returncode == 0
    assert "already done" in again.stdout


def test_another_setting_does_not_overwrite_a_finished_arm(study: Path, tiny_model: Path) -> None:
    assert train(study, tiny_model, "lora", "kept").returncode == 0
    before = (study / "kept" / "train.json").read_text()
    done = train(study, tiny_model, "lora", "kept", "--learning_rate", "1e-4")
    assert done.returncode == 2
    assert "holds a run with other settings" in done.stderr
    assert (study / "kept" / "train.json").read_text() == before


def test_a_stopped_run_continues_to_the_same_adapter(study: Path, tiny_model: Path) -> None:
    """SIGTERM in the middle, then the same command: tensor for tensor what an undisturbed run gives."""
    from safetensors.torch import load_file

    assert train(study, tiny_model, "lora", "undisturbed").returncode == 0
    command = [sys.executable, str(RECIPES / "sft_lora.py"), "--config", str(DEMO / "lora.yaml")]
    command += ["--study_dir", str(study), "--model_name_or_path", str(tiny_model), "--arm", "stopped"]
    command += [str(word) for word in SHORT]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 240
    while not list((study / "stopped").glob("checkpoint-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 130, errors[-2000:]
    assert not (study / "stopped" / "train.json").exists()

    done = train(study, tiny_model, "lora", "stopped")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "continuing from" in done.stdout
    one, two = (load_file(study / arm / "adapter" / "adapter_model.safetensors") for arm in ("undisturbed", "stopped"))
    assert one.keys() == two.keys()
    assert all(one[name].equal(two[name]) for name in one)
    assert record(study, "stopped")["tokens_seen"] == record(study, "undisturbed")["tokens_seen"]


@needs_compiler
def test_zero3_offload_gives_the_losses_of_plain_training(study: Path, tiny_model: Path) -> None:
    """The real DeepSpeed engine and DeepSpeedCPUAdam on the processor, one process."""
    from transformers import AutoModelForCausalLM

    assert train(study, tiny_model, "full", "full_plain").returncode == 0
    done = train(study, tiny_model, "full_offload", "full_zero3", launcher=ZERO3)
    assert done.returncode == 0, done.stderr[-3000:]
    assert record(study, "full_zero3")["distributed"] == "DEEPSPEED"
    assert losses(study, "full_zero3") == pytest.approx(losses(study, "full_plain"), abs=0.02)

    network, report = AutoModelForCausalLM.from_pretrained(study / "full_zero3" / "model", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert all(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("recipe", "flags", "launcher", "message"),
    [
        ("lora", ("--use_peft", "false"), (), "sft_lora.py trains adapters"),
        ("lora", ("--lora_target_modules", "lm_head"), (), "LoRA on lm_head"),
        ("lora", ("--trust_remote_code", "true"), (), "trust_remote_code"),
        ("lora", ("--max_length", "64"), (), "would cut answers"),
        ("lora", ("--chat_template_path", "nowhere.jinja"), (), "no such file"),
        ("full", ("--load_in_4bit", "true"), (), "sft_full.py trains every weight"),
        ("qlora", (), ZERO3, "QLoRA under ZeRO-3"),
        ("full_offload", ("--optim", "adafactor"), ZERO3, "silently becomes another optimizer"),
    ],
)
def test_what_cannot_work_is_refused_before_training(
    study: Path, tiny_model: Path, recipe: str, flags: tuple[str, ...], launcher: tuple[str, ...], message: str
) -> None:
    done = train(study, tiny_model, recipe, "refused", *flags, launcher=launcher)
    assert message in done.stderr
    assert done.returncode == (1 if launcher else 2)  # accelerate's launcher makes every failure a 1
    shutil.rmtree(study / "refused", ignore_errors=True)


def test_a_machine_without_the_memory_is_told_what_fits(study: Path, tiny_model: Path) -> None:
    done = train(study, tiny_model, "full", "too_big", "--host_reserve_gb", "100000")
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].startswith("does not fit:")


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="this machine has a GPU")
@pytest.mark.parametrize("launcher", [(), ACCELERATE], ids=["python", "accelerate"])
@pytest.mark.parametrize("script", ["sft_lora.py", "sft_full.py"])
def test_the_papers_model_by_default_stops_at_once_where_it_cannot_run(script: str, launcher: tuple[str, ...]) -> None:
    started = time.monotonic()
    done = run_script(script, launcher=launcher)
    lines = [line for line in done.stderr.splitlines() if line.startswith("does not fit:")]
    assert len(lines) == 1
    assert "mistralai/Mistral-7B-Instruct-v0.2 needs an NVIDIA GPU" in lines[0]
    assert lines[0].endswith("make demo")
    assert done.returncode == (1 if launcher else 3)
    assert time.monotonic() - started < 30  # ten seconds on an idle machine; tests share theirs
    assert not (ROOT / "runs" / "mistral_7b" / "lora").exists()
