"""The same recipe under every accelerate config a processor can run: losses of plain training, a whole saved model."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT
from medsft.memory.strategies import STRATEGIES
from training_runs import ACCELERATE, losses, needs_compiler, needs_libaio, record, train

pytestmark = pytest.mark.slow
CONFIGS = ROOT / "accelerate_configs"
SAME_ROWS = ("--train_sampling_strategy", "random", "--eval_strategy", "no", "--save_strategy", "no")
LAUNCHES = [  # strategy, processes; its accelerate config is the one that the memory plan names
    pytest.param("full_zero2", 2, id="ZeRO-2", marks=needs_compiler),
    pytest.param("full_zero2_offload", 1, id="ZeRO-2 offload", marks=needs_compiler),
    pytest.param("full_zero3", 2, id="ZeRO-3", marks=needs_compiler),
    pytest.param("full_zero3_optimizer_offload", 1, id="ZeRO-3 optimizer offload", marks=needs_compiler),
    pytest.param("full_zero3_offload", 1, id="ZeRO-3 offload", marks=needs_compiler),
    pytest.param("full_zero3_offload", 2, id="ZeRO-3 offload, two processes", marks=needs_compiler),
    pytest.param("full_nvme", 1, id="ZeRO-3 NVMe", marks=[needs_compiler, needs_libaio]),
    pytest.param("full_fsdp2_offload", 2, id="FSDP2 offload"),
]


@pytest.fixture(scope="module")
def study(tiny_study: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With two arms trained plainly, to compare with."""
    folder = tmp_path_factory.mktemp("distributed") / "study"
    shutil.copytree(tiny_study / "data", folder / "data")
    for recipe in ("full", "lora"):
        assert train(folder, tiny_model, recipe, recipe, *LONG, *SAME_ROWS).returncode == 0
    return folder


LONG = ("--max_steps", 20, "--learning_rate", 3e-4, "--max_train_rows", 80, "--per_device_train_batch_size", 2)
# a processor without bf16 instructions takes 2 s a row of the tiny model
IN_BF16 = ("--max_steps", 8, "--learning_rate", 3e-4, "--per_device_train_batch_size", 1)


def on_processors(name: str, processes: int, folder: Path) -> tuple[str, ...]:
    """The launch line of a shipped config, changed to use this many processors."""
    config: dict[str, Any] = yaml.safe_load((CONFIGS / name).read_text())
    config |= {"use_cpu": True, "num_processes": processes}
    path = folder / f"{processes}_{name}"
    path.write_text(yaml.safe_dump(config))
    return (*ACCELERATE, "--config_file", str(path))


@pytest.mark.parametrize(("strategy", "processes"), LAUNCHES)
def test_full_fine_tuning_learns_the_same_everywhere(
    study: Path, tiny_model: Path, tmp_path: Path, strategy: str, processes: int
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    arm = f"{strategy}_{processes}"
    batch = ("--per_device_train_batch_size", 2 // processes)
    launcher = on_processors(STRATEGIES[strategy].config, processes, tmp_path)
    named = ("--strategy", strategy, "--nvme_path", tmp_path / "swap")
    done = train(study, tiny_model, "full", arm, *LONG, *SAME_ROWS, *batch, *named, launcher=launcher)
    assert done.returncode == 0, done.stderr[-3000:]
    assert record(study, arm)["processes"] == processes
    assert losses(study, arm) == pytest.approx(losses(study, "full"), abs=0.02)
    assert record(study, arm)["tokens_seen"] == record(study, "full")["tokens_seen"]
    assert not list((tmp_path / "swap").rglob("*.swp"))  # NVMe's states are gone with the run

    saved, report = AutoModelForCausalLM.from_pretrained(study / arm / "model", output_loading_info=True)
    plain = AutoModelForCausalLM.from_pretrained(study / "full" / "model")
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert all(parameter.numel() for parameter in saved.parameters())
    ids = torch.arange(100, 132)[None]
    with torch.no_grad():
        difference = saved.float()(ids).logits.log_softmax(-1) - plain.float()(ids).logits.log_softmax(-1)
    assert difference.abs().max() < 0.1  # a step moves log-probabilities by about as much


@needs_compiler
def test_masters_and_states_in_bf16_learn_as_torch_does_in_bf16(study: Path, tiny_model: Path, tmp_path: Path) -> None:
    """`full_offload_bf16` against one process whose AdamW has nothing but bf16 either."""
    plain = ("--dtype", "bfloat16", "--bf16", "false")
    assert train(study, tiny_model, "full", "masters", *IN_BF16, *SAME_ROWS).returncode == 0
    assert train(study, tiny_model, "full", "plain_bf16", *IN_BF16, *SAME_ROWS, *plain).returncode == 0
    launcher = on_processors("zero3_offload.yaml", 1, tmp_path)
    states = ("--dtype", "bfloat16", "--bf16", "true", "--bf16_states", "true")
    states = ("--strategy", "full_zero3_offload_bf16", *states)
    done = train(study, tiny_model, "full", "offload_bf16", *IN_BF16, *SAME_ROWS, *states, launcher=launcher)
    assert done.returncode == 0, done.stderr[-3000:]
    assert losses(study, "offload_bf16") == pytest.approx(losses(study, "plain_bf16"), abs=0.02)
    assert losses(study, "offload_bf16") != losses(study, "masters")


def test_lora_in_two_processes_learns_the_same(study: Path, tiny_model: Path) -> None:
    from safetensors.torch import load_file

    launcher = (*ACCELERATE, "--config_file", str(CONFIGS / "multi_cpu.yaml"))
    batch = ("--per_device_train_batch_size", 1)
    done = train(study, tiny_model, "lora", "lora_two", *LONG, *SAME_ROWS, *batch, launcher=launcher)
    assert done.returncode == 0, done.stderr[-3000:]
    assert record(study, "lora_two")["processes"] == 2
    assert losses(study, "lora_two") == pytest.approx(losses(study, "lora"), abs=0.02)
    adapter = load_file(study / "lora_two" / "adapter" / "adapter_model.safetensors")
    assert len(adapter) == 28
    assert all(tensor.numel() for tensor in adapter.values())


@pytest.mark.parametrize("kwargs", [(), ("--activation_checkpointing_kwargs", '{"use_reentrant": true}')])
def test_lora_in_two_processes_with_checkpointing(study: Path, tiny_model: Path, kwargs: tuple[str, ...]) -> None:
    """As the recipes for GPUs ship it: reentrant or not, DDP must not look for unused parameters."""
    launcher = (*ACCELERATE, "--config_file", str(CONFIGS / "multi_cpu.yaml"))
    flags = ("--per_device_train_batch_size", 1, "--activation_checkpointing", "true", *kwargs)
    arm = f"lora_checkpointed_{len(kwargs)}"
    done = train(study, tiny_model, "lora", arm, *LONG, *SAME_ROWS, *flags, launcher=launcher)
    assert done.returncode == 0, done.stderr[-3000:]
    assert record(study, arm)["distributed"] == "MULTI_CPU" and record(study, arm)["processes"] == 2
    assert losses(study, arm) == pytest.approx(losses(study, "lora"), abs=0.02)
