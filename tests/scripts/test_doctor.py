"""What `make doctor` says of machines and containers that are not this one, and of this one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import doctor
from conftest import ROOT
from medsft.hardware import cgroups, specs


@pytest.mark.parametrize(
    ("version", "cuda", "grade"),
    [
        ("580.65.06", "13.0", "ok"),
        ("570.133.20", "13.0", "stop"),
        ("535.183.01", "12.8", "ok"),
        ("470.82.01", "12.1", "stop"),
        ("", "13.0", "look"),
        ("[N/A]", "13.0", "look"),
    ],
)
def test_driver_against_cuda(version: str, cuda: str, grade: str) -> None:
    finding = doctor.driver(version, cuda)
    assert finding.grade == grade
    assert bool(finding.remedy) == (grade != "ok")


def test_a_driver_that_answers_late_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    (tmp_path / "nvidia-smi").write_text(
        '#!/bin/sh\ncase "$1" in *driver_version) sleep 6; echo 580.65.06;; '
        "*) echo 'NVIDIA H200, 143771, 143156, Disabled';; esac\n"
    )
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    found = {finding.what: finding for finding in doctor.gpus()}
    assert found["driver"] == doctor.Finding("ok", "driver", "580.65.06, torch is built for CUDA 13.0")


def test_a_machine_without_shared_memory_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "SHARED_MEMORY", tmp_path / "none")
    found = next(doctor.between_processes())
    assert (found.grade, found.what) == ("look", "/dev/shm")
    assert found.found.startswith("none: too little") and "--shm-size" in found.remedy


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "max 100000\n"}, 2**15),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2**15),
        ({"cpu.max": "5000 100000\n"}, 1),
        ({}, 2**15),
    ],
)
def test_processors_of_a_container(tmp_path: Path, files: dict[str, str], cpus: int) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cgroups.cgroup_cpus(tmp_path) == cpus


def test_infiniband_that_nccl_cannot_use_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    (tmp_path / "mlx5_0").mkdir()
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
    monkeypatch.setattr(torch.cuda.nccl, "version", lambda: (2, 29, 7))
    monkeypatch.setattr("ctypes.util.find_library", lambda _: None)
    (without_library,) = doctor.transport(tmp_path)
    assert without_library.grade == "look"
    assert "libibverbs" in without_library.remedy
    monkeypatch.setenv("NCCL_IB_DISABLE", "1")
    (switched_off,) = doctor.transport(tmp_path)
    assert switched_off.remedy == "unset NCCL_IB_DISABLE"


def test_more_threads_than_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4096")
    (finding,) = doctor.processors()
    assert finding.grade == "look"
    assert finding.remedy == f"export OMP_NUM_THREADS={specs.machine('.').cpus}"


@pytest.mark.slow
def test_each_finding_that_is_not_ok_comes_with_a_remedy(tmp_path: Path) -> None:
    """As a command, with a cache where even root may not write."""
    env = os.environ | {"MEDSFT_CACHE": "/proc/medsft", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT / "recipes")}
    done = subprocess.run(
        [sys.executable, str(ROOT / "recipes" / "doctor.py")], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    lines = done.stdout.splitlines()
    for what in (
        "processors",
        "GPU",
        "/dev/shm",
        "locked memory",
        "between machines",
        "host memory",
        "studies",
        "compiler",
    ):
        assert any(line[6:].startswith(what) for line in lines), done.stdout + done.stderr
    for number, line in enumerate(lines):
        if line.startswith(("look", "stop")):
            assert lines[number + 1].strip().startswith("-> ")
    assert any(line.startswith("stop  MEDSFT_CACHE") for line in lines) or os.access("/proc", os.W_OK)
    assert done.returncode == (3 if any(line.startswith("stop") for line in lines) else 0)
