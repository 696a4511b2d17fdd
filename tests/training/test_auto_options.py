"""What a processor that is slow in bf16 chooses, and where bf16 stays all the same; what a GPU with flash-attn does."""

import json
import os
import shutil
from pathlib import Path

import pytest

from medsft.hardware import matmul_benchmark
from medsft.training import auto_options
from training_runs import losses, record, train

SLOW, FAST = {"bfloat16": 1.0, "float32": 90.0}, {"bfloat16": 300.0, "float32": 90.0}


@pytest.mark.parametrize(
    ("speed", "bf16", "states", "float32"),
    [
        (SLOW, "auto", False, True),
        (SLOW, True, False, False),  # the user's own file: DeepSpeed would refuse to disagree with it
        (SLOW, "auto", True, False),
        (FAST, "auto", False, False),
    ],
)
def test_precision_follows_the_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, speed: dict[str, float], bf16: object, states: bool, float32: bool
) -> None:
    config, engine = tmp_path / "full.yaml", tmp_path / "engine.json"
    config.write_text(f"use_cpu: true\nbf16: true\nbf16_states: {str(states).lower()}\n")
    engine.write_text(json.dumps({"bf16": {"enabled": bf16}}))
    monkeypatch.setattr(matmul_benchmark, "measured", lambda: speed)
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", str(engine))
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    chosen = auto_options.choose(["--config", str(config)])
    assert ("float32" in chosen) is float32
    assert os.environ["ACCELERATE_MIXED_PRECISION"] == ("no" if float32 else "bf16")
    assert "eager" in chosen


@pytest.mark.parametrize(
    ("capability", "installed", "recipe", "flat"),
    [
        (8.0, True, "", True),
        (8.0, False, "", False),
        (7.5, True, "", False),
        (8.0, True, "packing: true", False),
        (8.0, True, "pad_to_multiple_of: 512", False),
        (8.0, True, "end_of_turn_loss: false", False),
        (8.0, True, "padding_free: false", False),
    ],
)
def test_rows_are_not_padded_where_flash_attention_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capability: float, installed: bool, recipe: str, flat: bool
) -> None:
    config = tmp_path / "lora.yaml"
    config.write_text(f"use_peft: true\n{recipe}\n")
    monkeypatch.setattr(auto_options, "compute_capability", lambda: capability)
    monkeypatch.setattr(auto_options, "find_spec", lambda name: installed and name == "flash_attn")
    chosen = auto_options.choose(["--config", str(config)])
    assert ("--padding_free" in chosen) is flat
    assert ("flash_attention_2" in chosen) is (installed and capability >= 8)


@pytest.mark.slow
def test_rows_that_lie_end_to_end_are_learned_as_padded_ones(
    tiny_study: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """On a processor by torch's own attention, which keeps rows apart by their positions as flash attention does."""
    shutil.copytree(tiny_study / "data", tmp_path / "data")
    for arm, padding_free in (("padded", "false"), ("flat", "true")):
        done = train(tmp_path, tiny_model, "lora", arm, "--padding_free", padding_free, "--attn_implementation", "sdpa")
        assert done.returncode == 0, done.stderr[-2000:]
    assert losses(tmp_path, "flat") == pytest.approx(losses(tmp_path, "padded"), abs=2e-3)
    for counted in ("tokens_seen", "answer_tokens_seen"):
        assert record(tmp_path, "flat")[counted] == record(tmp_path, "padded")[counted]


BEST = ("--load_best_model_at_end",)
AT_EVALUATIONS = ["--save_strategy", "steps", "--save_steps", "0.1"]


@pytest.mark.parametrize(
    ("recipe", "flags", "chosen"),
    [
        ("mistral_7b/lora.yaml", (*BEST, "true"), AT_EVALUATIONS),
        ("mistral_7b/full_offload.yaml", (*BEST, "true"), AT_EVALUATIONS),
        ("mistral_7b/lora.yaml", (*BEST, "true", "--save_steps", "0.2"), []),
        ("mistral_7b/lora.yaml", (), []),
        ("mistral_7b/paper.yaml", (), []),
    ],
)
def test_the_best_checkpoint_is_one_of_those_that_are_saved(
    recipe: str, flags: tuple[str, ...], chosen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers refuses other steps of saving; it is asked here."""
    from conftest import RECIPES
    from medsft.training import sft

    argv = ["--config", str(RECIPES / "configs" / recipe), *flags, "--use_cpu", "true", "--bf16", "false"]
    words = auto_options.choose(argv)
    pairs = zip(words[::2], words[1::2], strict=True)
    added = [word for pair in pairs if pair[0].startswith("--save_st") for word in pair]
    assert added == chosen
    _, config, _ = sft.parse_recipe([*argv, *added])
    assert config.load_best_model_at_end == bool(flags or "paper" in recipe)
