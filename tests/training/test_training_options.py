"""Options that people expect, each trained for two steps through the script and seen in what it did."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from training_runs import record, train

pytestmark = pytest.mark.slow
GROUPED = ("--train_sampling_strategy", "group_by_length")
TWO_STEPS = ("--max_steps", 2, "--eval_strategy", "no", "--save_strategy", "no")


@pytest.fixture(scope="module")
def study(tiny_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("options") / "study"
    shutil.copytree(tiny_study / "data", folder / "data")
    return folder


def adapter(study: Path, arm: str) -> dict[str, tuple[int, ...]]:
    file = study / arm / "adapter" / "adapter_model.safetensors"
    return {name: tuple(tensor.shape) for name, tensor in load_file(file).items()}


@pytest.mark.parametrize(
    ("recipe", "flags"),
    [
        ("lora", ("--use_dora", "true")),
        ("lora", ("--use_rslora", "true")),
        ("lora", ("--lora_r", "4", "--lora_target_modules", "all-linear")),
        ("lora", ("--packing", "true", "--train_sampling_strategy", "random")),
        ("lora", ("--activation_checkpointing", "true")),
        ("lora", ("--torch_compile", "true", "--torch_compile_backend", "aot_eager")),
        ("lora", ("--full_determinism", "true")),
        ("qlora", ("--use_bnb_nested_quant", "false", "--bnb_4bit_compute_dtype", "float32")),
        ("full", ("--packing", "true", "--activation_checkpointing", "true", "--train_sampling_strategy", "random")),
        ("full", ("--optim", "adafactor", "--strategy", "full_adafactor")),
    ],
    ids=lambda value: " ".join(w.removeprefix("--") for w in value) if isinstance(value, tuple) else value,
)
def test_an_option_trains(study: Path, tiny_model: Path, recipe: str, flags: tuple[str, ...]) -> None:
    arm = "_".join([recipe, *flags]).replace("-", "")
    done = train(study, tiny_model, recipe, arm, *TWO_STEPS, *flags)
    assert done.returncode == 0, done.stderr[-2000:]
    assert record(study, arm)["steps"] == 2
    if recipe == "full":
        return
    names = adapter(study, arm)
    assert ("--use_dora" in flags) == any("lora_magnitude_vector" in name for name in names)
    assert {min(shape) for shape in names.values() if len(shape) == 2} == {4 if "--lora_r" in flags else 16}
    assert json.loads((study / arm / "adapter" / "adapter_config.json").read_text())["use_rslora"] == (
        "--use_rslora" in flags
    )


def test_the_dev_loss_of_a_model_does_not_depend_on_the_seed_of_its_run(study: Path, tiny_model: Path) -> None:
    few = ("--max_dev_rows", 7, "--per_device_eval_batch_size", 4)
    flags = ("--max_steps", 1, "--eval_steps", 1, "--warmup_steps", 0, *few, *GROUPED)
    found = []
    for seed in (1, 2):
        assert train(study, tiny_model, "lora", f"seed{seed}", *flags, "--seed", seed).returncode == 0
        history = record(study, f"seed{seed}")["history"]
        found.append([row["eval_loss"] for row in history if "eval_loss" in row])
    assert found[0][0] == found[1][0]  # before the first step
    assert found[0][1] != found[1][1]  # their rows came in another order


def test_neftunes_noise_is_in_training_and_not_in_the_dev_loss(study: Path, tiny_model: Path) -> None:
    """Jain et al. 2023 (arXiv:2310.05914): noise on the embeddings. The first step starts from the same weights."""
    flags = ("--max_steps", 1, "--eval_steps", 1, "--train_sampling_strategy", "random", "--warmup_steps", 0)
    for arm, noise in (("quiet", ()), ("noisy", ("--neftune_noise_alpha", "50", "--report_to", "tensorboard"))):
        done = train(study, tiny_model, "lora", arm, *flags, *noise)
        assert done.returncode == 0, done.stderr[-2000:]
    quiet, noisy = (record(study, arm)["history"] for arm in ("quiet", "noisy"))
    before = [next(row["eval_loss"] for row in history if row["step"] == 0) for history in (quiet, noisy)]
    assert before[0] == before[1]
    trained = [next(row["loss"] for row in history if "loss" in row) for history in (quiet, noisy)]
    assert abs(trained[0] - trained[1]) > 1e-3
    assert list((study / "noisy").rglob("events.out.tfevents.*"))  # the tracker that was asked for
    header, first = (study / "noisy" / "history.csv").read_text().splitlines()[:2]  # and the local history
    assert header.split(",")[:4] == ["step", "epoch", "loss", "eval_loss"]
    assert float(first.split(",")[3]) == pytest.approx(before[1], abs=1e-3)


def test_a_tracker_that_is_not_installed_is_refused(study: Path, tiny_model: Path) -> None:
    done = train(study, tiny_model, "lora", "tracked", "--report_to", "swanlab")
    assert done.returncode == 2
    assert "report_to swanlab: it is not installed" in done.stderr
    assert not (study / "tracked").exists()


def test_early_stopping_keeps_the_best_weights(study: Path, tiny_model: Path) -> None:
    """A rate that only does harm: the dev loss is lowest early, and training ends soon after."""
    often = ("--eval_steps", 1, "--save_steps", 1, "--max_steps", 20, "--load_best_model_at_end", "true")
    flags = ("--early_stopping_patience", 2, "--learning_rate", 30, "--metric_for_best_model", "eval_loss")
    flags += ("--dtype", "float32")  # the same course on every processor
    done = train(study, tiny_model, "lora", "early", *often, *flags)
    assert done.returncode == 0, done.stderr[-2000:]
    trained = record(study, "early")
    assert trained["steps"] < 20
    assert trained["saved_step"] == trained["best_step"] or trained["best_step"] == 0
    refused = train(study, tiny_model, "lora", "early_2", "--early_stopping_patience", 2)
    assert refused.returncode == 2
    assert "load_best_model_at_end" in refused.stderr


def test_the_saved_tokenizer_reads_as_the_one_before(study: Path, tiny_model: Path) -> None:
    from transformers import AutoTokenizer, GenerationConfig

    assert train(study, tiny_model, "lora", "round_trip", *TWO_STEPS).returncode == 0
    saved = study / "round_trip" / "adapter"
    before, after = AutoTokenizer.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(saved)
    dialogue = [{"role": "user", "content": "My knee hurts </s> <|im_end|> é 37,5 °C."}]
    for text in ("plain text", "<|im_start|>user", before.apply_chat_template(dialogue, tokenize=False)):
        assert before(text)["input_ids"] == after(text)["input_ids"]
    asked = {"add_generation_prompt": True, "return_dict": False}
    assert before.apply_chat_template(dialogue, **asked) == after.apply_chat_template(dialogue, **asked)
    stops = GenerationConfig.from_pretrained(saved).eos_token_id
    assert after.convert_tokens_to_ids("<|im_end|>") in stops


def test_the_end_of_turn_can_be_left_out_of_the_loss_as_the_study_did(study: Path, tiny_model: Path) -> None:
    same = ("--train_sampling_strategy", "random", *TWO_STEPS)
    assert train(study, tiny_model, "lora", "learns_end", *same).returncode == 0
    assert train(study, tiny_model, "lora", "no_end", *same, "--end_of_turn_loss", "false").returncode == 0
    with_end, without = record(study, "learns_end"), record(study, "no_end")
    assert without["tokens_seen"] == with_end["tokens_seen"]
    assert 0 < with_end["answer_tokens_seen"] - without["answer_tokens_seen"] <= 2 * 2 * 4 * 8  # a few turns a row
