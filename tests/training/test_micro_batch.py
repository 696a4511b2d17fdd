"""Out of memory or disk: exit status 3, what was made is kept, and the remedy is one that fits."""

import json
import os
import resource
import shutil
import subprocess
from pathlib import Path

import psutil
import pytest

from medsft.training import checkpoints, micro_batch
from training_runs import command, record, started, train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study(tiny_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fallbacks") / "study"
    shutil.copytree(tiny_study / "data", folder / "data")
    return folder


@pytest.mark.parametrize(
    ("error", "place"),
    [
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: 7 bytes"),
            "host",
        ),
        (MemoryError(), "host"),
        (OSError(28, "No space left on device"), "disk"),
        (OSError(12, "Cannot allocate memory"), "host"),
        (OSError(2, "No such file or directory"), ""),
        (RuntimeError("could not create a primitive"), "host"),
        (RuntimeError("could not create a primitive descriptor iterator"), ""),
        (RuntimeError("shapes cannot be multiplied"), ""),
    ],
)
def test_what_ran_out_is_told_from_the_error(error: Exception, place: str, tmp_path: Path) -> None:
    assert micro_batch.ran_out_of(error, str(tmp_path)) == place


def test_device_memory_is_told_from_the_error(tmp_path: Path) -> None:
    import torch

    assert (
        micro_batch.ran_out_of(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), ".") == "device"
    )


def test_out_of_host_memory_ends_with_settings_that_fit(study: Path, tiny_model: Path) -> None:
    """When training begins the address space may grow by 0.3 GB; the first step of 48 rows needs 1.3 GB more."""
    words = command(study, tiny_model, "full", "starved", "--per_device_train_batch_size", 48, "--max_train_rows", 96)
    process = started(words)
    assert process.stderr
    said = ""
    while "0/6 [" not in said and (letter := process.stderr.read(1)):  # the progress bar of the first step
        said += letter
    limit = psutil.Process(process.pid).memory_info().vms + 300_000_000
    resource.prlimit(process.pid, resource.RLIMIT_AS, (limit, limit))
    said += process.communicate(timeout=300)[1]
    assert process.returncode == 3, said[-2000:]
    line = next(line for line in said.splitlines() if line.startswith("does not fit:"))
    assert "host memory ran out at 48 rows" in line
    assert "--per_device_train_batch_size 24 --gradient_accumulation_steps 2" in line


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk is mounted, which only root may do")
def test_a_full_disk_keeps_the_last_good_checkpoint(study: Path, tiny_model: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    size = 60  # MB: the study, one checkpoint of 40 MB, and not a second
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", str(disk)]).returncode:
        pytest.skip("this container may not mount")
    try:
        shutil.copytree(study / "data", disk / "study" / "data")
        done = train(disk / "study", tiny_model, "full", "full", "--eval_strategy", "no")
        assert done.returncode == 3, done.stderr[-2000:]
        assert "is full; what was finished is kept" in done.stderr
        assert checkpoints.newest(disk / "study" / "full") == disk / "study" / "full" / "checkpoint-2"
        subprocess.run(["mount", "-o", "remount,size=400m", str(disk)], check=True)
        again = train(disk / "study", tiny_model, "full", "full", "--eval_strategy", "no")
        assert again.returncode == 0, again.stderr[-2000:]
        assert "continuing from" in again.stdout
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_auto_batch_keeps_the_rows_of_a_step_and_its_choice(study: Path, tiny_model: Path) -> None:
    flags = ("--auto_batch", "true", "--per_device_train_batch_size", 2, "--gradient_accumulation_steps", 4)
    done = train(study, tiny_model, "lora", "auto", *flags, "--max_steps", 2, "--eval_strategy", "no")
    assert done.returncode == 0, done.stderr[-2000:]
    assert record(study, "auto")["micro_batch"] == 8
    assert json.loads((study / "auto" / "auto_batch.json").read_text()) == {"micro_batch": 8, "ran_out": []}


def test_divisors_make_up_the_rows_exactly() -> None:
    assert micro_batch.divisors(12) == [12, 6, 4, 3, 2, 1]
