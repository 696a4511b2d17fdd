"""A run that is stopped, killed or damaged continues to the tensors that an undisturbed run ends with."""

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from safetensors.torch import load_file

from conftest import ROOT
from medsft import manifest
from medsft.training import checkpoints
from training_runs import ACCELERATE, ZERO3, command, needs_compiler, needs_libaio, record, started, train

pytestmark = pytest.mark.slow
TWO = (*ACCELERATE, "--config_file", str(ROOT / "accelerate_configs" / "multi_cpu.yaml"))
KINDS = [
    pytest.param("lora", (), id="lora"),
    pytest.param("full", (), id="full"),
    pytest.param("lora", TWO, id="lora, two processes"),
    pytest.param("full_offload", ZERO3, id="ZeRO-3 offload", marks=needs_compiler),
]


def weights(arm: Path) -> dict[str, Any]:
    files = [*arm.glob("adapter/*.safetensors"), *arm.glob("model/*.safetensors")]
    assert files
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL to a launcher and all that it started, without a word of warning."""
    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for member in family:
        member.kill()
    process.communicate(timeout=60)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert path.exists(), process.communicate()[1][-2000:] if process.poll() is not None else "no checkpoint in time"


@pytest.fixture(scope="module")
def study(tiny_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resume") / "study"
    shutil.copytree(tiny_study / "data", folder / "data")
    return folder


@pytest.mark.parametrize(("recipe", "launcher"), KINDS)
def test_a_killed_run_continues_to_the_same_weights(
    study: Path, tiny_model: Path, recipe: str, launcher: tuple[str, ...]
) -> None:
    """kill -9 in the third step or later, and the newest checkpoint torn: the one before it is resumed from."""
    name = f"{recipe}_{len(launcher)}"
    flags = ("--save_steps", 1, "--max_steps", 4, "--save_total_limit", 3)
    whole = train(study, tiny_model, recipe, f"{name}_whole", *flags, launcher=launcher)
    assert whole.returncode == 0, whole.stderr[-3000:]

    killed = study / f"{name}_killed"
    process = started(command(study, tiny_model, recipe, killed.name, *flags), launcher)
    wait_for(killed / "checkpoint-2" / manifest.MANIFEST, process)
    kill(process)
    valid = [c for c in killed.glob("checkpoint-*") if (c / manifest.MANIFEST).exists()]
    newest = max(valid, key=lambda c: int(c.name.split("-")[1]))
    torn = next(newest.rglob("*.safetensors"))
    torn.write_bytes(torn.read_bytes()[:-100])

    resumed = train(study, tiny_model, recipe, killed.name, *flags, launcher=launcher)
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert "is damaged" in resumed.stderr
    assert "continuing from" in resumed.stdout
    one, two = weights(study / f"{name}_whole"), weights(killed)
    assert one.keys() == two.keys()
    assert all(one[key].equal(two[key]) for key in one)
    one, two = record(study, f"{name}_whole"), record(study, killed.name)
    assert one["tokens_seen"] == two["tokens_seen"]
    assert one["history"] == two["history"]  # each step and each evaluation, the first among them, once


def test_a_run_killed_in_its_second_epoch_sees_each_row_once_more(study: Path, tiny_model: Path) -> None:
    """24 rows are six steps, and the order of the second six is not that of the first."""
    flags = ("--save_steps", 2, "--max_steps", 11, "--save_total_limit", 3, "--eval_strategy", "no")
    whole = train(study, tiny_model, "lora", "epochs_whole", *flags)
    assert whole.returncode == 0, whole.stderr[-3000:]
    process = started(command(study, tiny_model, "lora", "epochs_killed", *flags))
    wait_for(study / "epochs_killed" / "checkpoint-8" / manifest.MANIFEST, process)
    kill(process)
    resumed = train(study, tiny_model, "lora", "epochs_killed", *flags)
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert "continuing from" in resumed.stdout
    assert record(study, "epochs_whole")["history"] == record(study, "epochs_killed")["history"]
    one, two = weights(study / "epochs_whole"), weights(study / "epochs_killed")
    assert all(one[key].equal(two[key]) for key in one)


@needs_compiler
def test_full_precision_weights_come_out_of_a_zero3_checkpoint(study: Path, tiny_model: Path) -> None:
    """DeepSpeed's own zero_to_fp32, on the checkpoint of the last step: float32 masters of the saved bf16 weights."""
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    flags = ("--save_steps", 2, "--max_steps", 2, "--eval_strategy", "no")
    done = train(study, tiny_model, "full_offload", "masters", *flags, launcher=ZERO3)
    assert done.returncode == 0, done.stderr[-3000:]
    masters = get_fp32_state_dict_from_zero_checkpoint(str(study / "masters" / "checkpoint-2"))
    saved = weights(study / "masters")
    assert saved.keys() <= masters.keys()
    assert all(str(masters[name].dtype) == "torch.float32" for name in saved)
    assert all(masters[name].to(tensor.dtype).equal(tensor) for name, tensor in saved.items())


@needs_compiler
@needs_libaio
@pytest.mark.parametrize("sub_group", [10**9, 1_600_000])
def test_a_run_on_nvme_continues_to_the_same_weights(
    study: Path, tiny_model: Path, tmp_path: Path, sub_group: int
) -> None:
    """With all weights in one swapped sub-group; and in several, of which the last is too small to be swapped."""
    auto = ("train_micro_batch_size_per_gpu", "train_batch_size", "gradient_accumulation_steps", "gradient_clipping")
    zero = {
        "stage": 3,
        "sub_group_size": sub_group,
        "offload_optimizer": {"device": "nvme"},
        "offload_param": {"device": "cpu"},
        "stage3_gather_16bit_weights_on_model_save": True,
    }
    engine = {**dict.fromkeys(auto, "auto"), "bf16": {"enabled": "auto"}, "zero_optimization": zero}
    (tmp_path / "engine.json").write_text(json.dumps(engine))
    launch = {"distributed_type": "DEEPSPEED", "num_processes": 1, "num_machines": 1, "use_cpu": True}
    launch["deepspeed_config"] = {"deepspeed_config_file": str(tmp_path / "engine.json"), "zero3_init_flag": True}
    (tmp_path / "launch.yaml").write_text(yaml.safe_dump(launch))
    launcher = (*ACCELERATE, "--config_file", str(tmp_path / "launch.yaml"))

    flags = ("--save_steps", 2, "--max_steps", 4, "--save_total_limit", 3, "--eval_strategy", "no")
    flags = (*flags, "--nvme_path", tmp_path / "swap", "--per_device_train_batch_size", 1)
    arm = study / f"nvme_{sub_group}"
    whole = train(study, tiny_model, "full_nvme", arm.name, *flags, launcher=launcher)
    assert whole.returncode == 0, whole.stderr[-3000:]
    one = weights(arm)
    shutil.rmtree(arm / "checkpoint-4")
    shutil.rmtree(arm / "model")
    (arm / "train.json").unlink()
    resumed = train(study, tiny_model, "full_nvme", arm.name, *flags, launcher=launcher)
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert "continuing from" in resumed.stdout
    two = weights(arm)
    assert all(one[name].equal(two[name]) for name in one)


def test_sigterm_writes_a_checkpoint_and_the_next_run_continues(study: Path, tiny_model: Path) -> None:
    assert train(study, tiny_model, "lora", "undisturbed").returncode == 0
    process = started(command(study, tiny_model, "lora", "stopped"))
    wait_for(study / "stopped" / "checkpoint-2", process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 130, errors[-2000:]
    assert not (study / "stopped" / "train.json").exists()

    done = train(study, tiny_model, "lora", "stopped")
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = weights(study / "undisturbed"), weights(study / "stopped")
    assert all(one[name].equal(two[name]) for name in one)
    history = [(study / arm / "history.csv").read_text() for arm in ("undisturbed", "stopped")]
    assert history[0] == history[1]


def test_a_second_run_in_the_same_folder_is_refused(study: Path, tiny_model: Path) -> None:
    process = started(command(study, tiny_model, "lora", "taken", "--max_steps", 400))
    wait_for(study / "taken" / "fingerprint", process)
    second = train(study, tiny_model, "lora", "taken", "--max_steps", 400)
    process.kill()
    process.communicate(timeout=60)
    assert second.returncode == 2
    assert "another run is training in it now" in second.stderr


def test_a_diverging_loss_stops_the_run_and_keeps_the_last_good_checkpoint(study: Path, tiny_model: Path) -> None:
    wild = ("--learning_rate", "1e30", "--warmup_steps", 3, "--save_steps", 1, "--max_grad_norm", 0, "--max_steps", 8)
    done = train(study, tiny_model, "full", "wild", *wild, "--eval_strategy", "no")
    assert done.returncode == 2
    assert "training diverged at step" in done.stderr
    kept = checkpoints.newest(study / "wild")
    assert kept is not None
    assert str(kept) in done.stderr
    assert all(tensor.isfinite().all() for tensor in load_file(kept / "model.safetensors").values())


def test_short_of_host_memory_it_stops_with_a_checkpoint(study: Path, tiny_model: Path) -> None:
    done = train(study, tiny_model, "lora", "pressed", "--host_floor_gb", 1_000_000)
    assert done.returncode == 3
    assert "host memory were left at step 1" in done.stderr
    assert checkpoints.newest(study / "pressed") == study / "pressed" / "checkpoint-1"
