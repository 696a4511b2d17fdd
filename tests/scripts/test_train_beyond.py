"""A decoder larger than memory: its size, its weights by shards, and the whole of it at a small size."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from conftest import run_script
from medsft.errors import DoesNotFit
from medsft.hardware.specs import described, machine
from medsft.models import embedded, loading
from medsft.models.parameter_counts import sizes_of
from medsft.training import larger_than_memory
from training_runs import needs_compiler, needs_libaio


@pytest.mark.parametrize("target", [10**8, 10**9, 3_150_000_000, 16 * 10**9])
def test_the_shape_has_at_least_so_many_parameters_and_a_layer_more_at_most(target: int) -> None:
    config = larger_than_memory.shape(target, loading.load_tokenizer(embedded.SMOLLM2))
    sizes = sizes_of(config)
    assert target <= sizes.parameters < target + sizes.layer
    assert 8 <= sizes.layers <= 60


def test_random_weights_are_read_as_from_pretrained_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoModelForCausalLM

    tokenizer = loading.load_tokenizer(embedded.SMOLLM2)
    monkeypatch.setattr(larger_than_memory, "SHARD", 14_000_000)
    larger_than_memory.write_random(larger_than_memory.shape(10**6, tokenizer), tokenizer, tmp_path / "model", seed=1)
    files = sorted((tmp_path / "model").glob("*.safetensors"))
    assert len(files) >= 2
    network, report = AutoModelForCausalLM.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert network.dtype == torch.bfloat16
    drawn = {name: tensor for file in files for name, tensor in load_file(file).items()}
    assert float(drawn["model.layers.0.mlp.up_proj.weight"].float().std()) == pytest.approx(0.02, rel=0.05)
    assert float(drawn["model.norm.weight"].float().mean()) == 1


def test_a_disk_that_is_too_small_is_said_with_what_is_missing() -> None:
    with pytest.raises(DoesNotFit, match=r"3.10 billion parameters need 58 GB of disk"):
        larger_than_memory.check(3_100_000_000, described(machine("."), disk="10GB"))


@pytest.mark.slow
@needs_compiler
@needs_libaio
def test_beyond_at_a_small_size(tmp_path: Path) -> None:
    """Every weight trained with its states on the disk, on one batch of the sample; nothing large is left behind."""
    done = run_script("train_beyond.py", "--study_dir", tmp_path, "--times", 1e-4, "--steps", 3, "--max_rows", 60,
                      "--learning_rate", 1e-3)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads((tmp_path / "beyond.json").read_text())
    assert result["steps"] == 3
    assert result["losses"][-1] < result["losses"][0]
    # master, moments and gradient of the two large tensors, which are nearly all, go to the disk and come back
    for moved in result["disk_bytes_per_step"].values():
        assert 10 * result["parameters"] < moved < 20 * result["parameters"]
    assert result["study_arithmetic_bytes"] == 12 * result["parameters"]
    assert (tmp_path / "full" / "train.json").is_file()
    assert "loss, step by step" in (tmp_path / "beyond.md").read_text()
    assert not list(tmp_path.rglob("*.swp"))
    assert not (tmp_path / "model").exists()
    again = run_script("train_beyond.py", "--study_dir", tmp_path, "--times", 1e-4)
    assert "already done" in again.stdout
