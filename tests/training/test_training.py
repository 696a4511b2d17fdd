"""Training as users start it, on a model of 3 million weights: every arm, its artefact, and what is refused."""

import resource
import shutil
from pathlib import Path

import pytest

from conftest import ROOT, run_script
from medsft.models import loading
from training_runs import ACCELERATE, ZERO3, record, train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study(tiny_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "study"
    shutil.copytree(tiny_study / "data", folder / "data")
    return folder


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
    assert trained["base_revision"] == loading.revision(str(tiny_model))
    assert len(trained["step_seconds"]) == 6 and sum(trained["step_seconds"]) <= trained["wall_seconds"]
    assert (trained["energy_joules"] is None) == (trained["energy_counted_by"] == "")
    assert trained["quantization"] == ("nf4" if recipe == "qlora" else None)
    total = 3_322_432 - 49_152 * 64 + 49_152 * 64  # embeddings are tied and counted once
    assert (trained["trainable_percent"] == 100) == (recipe == "full")
    assert trained["total_parameters"] >= total - 200_000

    saved = study / recipe / ("model" if recipe == "full" else "adapter")
    names = {path.name for path in saved.iterdir()}
    assert {"tokenizer.json", "chat_template.jinja", "generation_config.json", "README.md"} <= names
    assert "Not medical advice" in (study / recipe / "README.md").read_text()
    assert (study / recipe / "config.yaml").exists()
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


def processor_seconds() -> float:
    """Processor time of the processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="this machine has a GPU")
@pytest.mark.parametrize("launcher", [(), ACCELERATE], ids=["python", "accelerate"])
@pytest.mark.parametrize("script", ["sft_lora.py", "sft_full.py"])
def test_the_papers_model_by_default_stops_at_once_where_it_cannot_run(script: str, launcher: tuple[str, ...]) -> None:
    before = processor_seconds()
    done = run_script(script, launcher=launcher)
    lines = [line for line in done.stderr.splitlines() if line.startswith("does not fit:")]
    assert len(lines) == 1
    assert done.stderr.rstrip().endswith(lines[0])  # also after the launcher's own traceback
    assert "mistralai/Mistral-7B-Instruct-v0.2 needs an NVIDIA GPU" in lines[0]
    assert lines[0].endswith("make demo")
    assert done.returncode == (1 if launcher else 3)
    assert processor_seconds() - before < 30  # about ten; of the processor, as tests share this machine
    assert not (ROOT / "runs" / "mistral_7b" / "lora").exists()
