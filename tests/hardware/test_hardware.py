"""Facts of the machine, read from stand-ins for nvidia-smi, /proc and the control groups."""

import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsft import hub
from medsft.errors import UserError
from medsft.hardware import cgroups, specs
from medsft.text import parse_bytes

RECIPES = Path(specs.__file__).parents[1]
TWO_GPUS = "NVIDIA A100-SXM4-80GB, 81920, 81000\nNVIDIA A100-SXM4-80GB, 40960, 40000\n"


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """A stand-in for nvidia-smi that prints the given text; CUDA_VISIBLE_DEVICES is not set."""

    def install(output: str, status: int = 0) -> None:
        (tmp_path / "answer").write_text(output, encoding="utf-8")
        script = tmp_path / "nvidia-smi"
        script.write_text(f"#!/bin/sh\n/bin/cat {tmp_path}/answer\nexit {status}\n", encoding="utf-8")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return install


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("167GB", 167_000_000_000),
        ("2TB", 2 * 10**12),
        ("1.5 GB", 1_500_000_000),
        ("80GiB", 80 * 2**30),
        ("512mib", 512 * 2**20),
        ("10kB", 10_000),
    ],
)
def test_parse_bytes(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "167", "GB", "-1GB", "1e3GB", "12 Gigabytes", "1,5GB", "nanGB", "٣GB"])
def test_parse_bytes_refuses(text):
    with pytest.raises(UserError, match="167GB"):
        parse_bytes(text)


@given(st.integers(0, 10**6), st.sampled_from(["kB", "MB", "GB", "TB", "KiB", "MiB", "GiB", "TiB"]))
def test_binary_units_are_larger_than_decimal(number, unit):
    decimal = parse_bytes(f"{number}{unit.replace('i', '')}")
    binary = parse_bytes(f"{number}{unit[0]}i{unit[-1]}")
    assert binary >= decimal and decimal % 1000 == 0 and binary % 1024 == 0


def test_gpus_are_read(nvidia_smi, tmp_path):
    nvidia_smi(TWO_GPUS)
    here = specs.machine(tmp_path / "not" / "there" / "yet")
    assert (here.gpu, here.gpus) == ("NVIDIA A100-SXM4-80GB", 2)
    assert here.device_bytes == 40960 * 2**20 and here.device_available_bytes == 40000 * 2**20  # the smaller one's
    assert here.tflops == 312
    assert 0 < here.host_available_bytes <= here.host_bytes and here.disk_bytes > 0 and here.cpus >= 1


@pytest.mark.parametrize(
    ("visible", "count", "mib"),
    [
        ("0", 1, 81920),
        ("1", 1, 40960),
        ("1,0", 2, 40960),
        ("", 0, 0),
        ("-1", 0, 0),
        ("GPU-5e1f", 1, 81920),
        ("7", 0, 0),
    ],
)
def test_visible_devices(nvidia_smi, monkeypatch, visible, count, mib):
    nvidia_smi(TWO_GPUS)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    here = specs.machine(".")
    assert (here.gpus, here.device_bytes) == (count, mib * 2**20)


@pytest.mark.parametrize(
    ("output", "status"), [("", 0), ("No devices were found\n", 6), ("NVIDIA GB10, [N/A], [N/A]\n", 0)]
)
def test_no_usable_gpu(nvidia_smi, output, status):
    nvidia_smi(output, status)
    assert specs.machine(".").gpu == "none"


def test_unlisted_gpu_keeps_its_memory_without_a_speed(nvidia_smi):
    nvidia_smi("NVIDIA L40, 46068, 45000\n")
    here = specs.machine(".")
    assert here.device_bytes == 46068 * 2**20 and here.tflops is None


@pytest.mark.parametrize(
    ("reported", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA GeForce RTX 4090", 165),
        ("NVIDIA RTX A6000", 155),
        ("Tesla T4", 65),
        ("Tesla V100-SXM2-32GB", 125),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("NVIDIA T400", None),
        ("NVIDIA GeForce RTX 4090 D", 165),
    ],
)
def test_names_of_the_driver(nvidia_smi, reported, tflops):
    nvidia_smi(f"{reported}, 1000, 900\n")
    assert specs.machine(".").tflops == tflops


@pytest.mark.parametrize(
    ("asked", "near"), [("a100", "a100-80gb"), ("A100-80", "a100-80gb"), ("rtx409", "rtx4090"), ("h20", "h200")]
)
def test_unknown_gpu_names_the_nearest(asked, near):
    with pytest.raises(UserError, match=f"did you mean '{near}'"):
        specs.described(specs.machine("."), gpu=asked)


def test_described_overrides_only_what_is_given():
    here = specs.machine(".")
    there = specs.described(here, "H100", 8, "1TB", None)
    assert (there.gpus, there.device_bytes, there.host_bytes) == (8, 81_559 * 2**20, 10**12)
    assert there.disk_bytes == here.disk_bytes and there.host_available_bytes == 10**12
    none = specs.described(there, gpus=0)
    assert (none.gpu, none.gpus, none.device_bytes) == ("none", 0, 0)


@pytest.mark.parametrize(("gpu", "gpus"), [("none", 1), ("h100", -1)])
def test_counts_without_sense(gpu, gpus):
    with pytest.raises(UserError, match="--gpus"):
        specs.described(specs.machine("."), gpu, gpus)


@pytest.mark.parametrize(
    ("line", "files"),
    [
        ("0::/job", ("job/memory.max", "job/memory.current", "job/memory.stat", "inactive_file")),
        (
            "4:memory:/job",
            (
                "memory/job/memory.limit_in_bytes",
                "memory/job/memory.usage_in_bytes",
                "memory/job/memory.stat",
                "total_inactive_file",
            ),
        ),
    ],
)
def test_limits_of_a_container(tmp_path, line, files):
    limit, used, stat, cache = files
    own = tmp_path / "own"
    own.write_text(f"3:cpu:/x\n{line}\n", encoding="utf-8")
    (tmp_path / limit).parent.mkdir(parents=True)
    (tmp_path / limit).write_text("4000\n", encoding="utf-8")
    (tmp_path / used).write_text("1500\n", encoding="utf-8")
    (tmp_path / stat).write_text(f"anon 7\n{cache} 500\n", encoding="utf-8")
    assert cgroups.cgroup_memory(tmp_path, own) == (4000, 3000)


def test_the_limit_of_a_parent_counts(tmp_path):
    own = tmp_path / "own"
    own.write_text("0::/slice/job\n", encoding="utf-8")
    (tmp_path / "slice" / "job").mkdir(parents=True)
    (tmp_path / "slice" / "job" / "memory.max").write_text("max\n", encoding="utf-8")
    (tmp_path / "slice" / "memory.max").write_text("9000\n", encoding="utf-8")
    (tmp_path / "slice" / "memory.current").write_text("9500\n", encoding="utf-8")
    assert cgroups.cgroup_memory(tmp_path, own) == (9000, 0)


def test_no_limit(tmp_path):
    assert cgroups.cgroup_memory(tmp_path, tmp_path / "own") == (2**63, 2**63)


@pytest.mark.parametrize(
    ("flags", "expected"), [("fpu avx512_bf16 sse", True), ("amx_bf16", True), ("avx512f", False), (None, False)]
)
def test_bf16_of_the_processor(tmp_path, flags, expected):
    if flags:
        (tmp_path / "cpuinfo").write_text(f"flags\t\t: {flags}\n", encoding="utf-8")
    assert specs.has_bf16_cpu(tmp_path / "cpuinfo") is expected


@pytest.fixture
def listening(monkeypatch):
    """A port of this machine that accepts connections and records what it is sent."""
    for name in ("HF_HUB_OFFLINE", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_hub_is_reached_without_sending_anything(listening, monkeypatch):
    sent: list[bytes] = []

    def accept() -> None:
        connection, _ = listening.accept()
        with connection:
            sent.append(connection.recv(100))

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{listening.getsockname()[1]}")
    assert hub.hub_reachable()
    thread.join(5)
    assert sent == [b""]


def test_a_proxy_is_asked_in_place_of_the_hub(listening, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{listening.getsockname()[1]}")
    monkeypatch.setenv("no_proxy", "")
    assert hub.hub_reachable()


def test_hub_offline_and_closed(listening, monkeypatch):
    port = listening.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not hub.hub_reachable()
    monkeypatch.delenv("HF_HUB_OFFLINE")
    listening.close()
    assert not hub.hub_reachable(timeout=1)


def test_guards_need_no_torch():
    code = "import sys, medsft.hardware.specs, medsft.memory.planner"
    code += "\nsys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(RECIPES)}).returncode == 0
