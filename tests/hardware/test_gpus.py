"""GPUs as nvidia-smi reports them to this process."""

from pathlib import Path

import pytest

from medsft.errors import UserError
from medsft.hardware import gpus

ROWS = "NVIDIA A100-SXM4-80GB, 81920, 80000\nNVIDIA A100-SXM4-80GB, 81920, 40000\nNVIDIA GB10, [N/A], [N/A]"


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = tmp_path / "nvidia-smi"
    binary.write_text(f"#!/bin/sh\ncat <<END\n{ROWS}\nEND\n")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("visible", "count", "free"),
    [(None, 2, 40_000), ("0", 1, 80_000), ("1,0", 2, 40_000), ("", 0, 0), ("-1", 0, 0), ("GPU-1234", 1, 80_000)],
)
def test_the_gpus_that_this_process_may_use(
    nvidia_smi: None, monkeypatch: pytest.MonkeyPatch, visible: str | None, count: int, free: int
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    name, found, total, left = gpus.visible_gpus()
    assert (found, left) == (count, free * gpus.MIB)
    assert name == ("NVIDIA A100-SXM4-80GB" if count else "none")
    assert total == (81_920 * gpus.MIB if count else 0)


@pytest.mark.parametrize(
    ("reported", "name"),
    [
        ("NVIDIA A100-SXM4-80GB", "a100-80gb"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("NVIDIA GeForce RTX 5090", "rtx5090"),
        ("NVIDIA A10G", "a10g"),
        ("NVIDIA A40", "a40"),
        ("NVIDIA B200", "b200"),
        ("NVIDIA GH200 480GB", "gh200"),
        ("NVIDIA TITAN V", None),
    ],
)
def test_reported_names_are_found_in_the_table(reported: str, name: str | None) -> None:
    assert gpus.known_name(reported) == name


def test_an_unknown_gpu_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'h100'"):
        gpus.known("h10")


def test_a_gpu_of_another_maker_is_named_as_such() -> None:
    with pytest.raises(UserError, match="MI300X is a GPU of AMD"):
        gpus.known("MI300X")


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_no_answer_in_time_is_no_machine_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "exec sleep 60")
    with pytest.raises(UserError, match=r"no answer within 0\.2 s.*nvidia-smi -pm 1"):
        gpus.nvidia_smi("name", seconds=0.2)


def test_a_late_answer_counts_and_is_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, f"echo asked >> {tmp_path}/log; sleep 0.3; printf '8.9\\n8.0\\n'")
    assert gpus.compute_capability() == gpus.compute_capability() == 8.0
    assert (tmp_path / "log").read_text() == "asked\n"


def test_a_gpu_that_is_not_visible_decides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An RTX 4090 beside a GTX 1050 for the screen."""
    answers = (
        'case "$1" in *compute_cap*) printf "6.1\\n8.9\\n";; *uuid*) printf "GPU-1a\\nGPU-2b\\n";; '
        '*) printf "NVIDIA GeForce GTX 1050, 2048, 1000\\nNVIDIA GeForce RTX 4090, 24564, 24000\\n";; esac'
    )
    stand_in(tmp_path, monkeypatch, answers)
    assert gpus.compute_capability() == 6.1
    assert gpus.largest_gpu() == 1
    for visible in ("1", "GPU-2b", "GPU-2"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert gpus.compute_capability() == 8.9
        assert gpus.visible_gpus()[:2] == ("NVIDIA GeForce RTX 4090", 1)


@pytest.mark.parametrize("script", ["exit 9", "echo 'No devices were found'; exit 6", "echo '[N/A]'"])
def test_a_driver_that_does_not_work_is_a_machine_without_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    stand_in(tmp_path, monkeypatch, script)
    assert gpus.compute_capability() == 0 and gpus.visible_gpus() == ("none", 0, 0, 0)


MIXED = """case "$1" in
-L) cat <<'END'
GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-1a)
  MIG 3g.40gb     Device  0: (UUID: MIG-1)
  MIG 1g.10gb     Device  1: (UUID: MIG-2)
GPU 1: NVIDIA A100-SXM4-80GB (UUID: GPU-2b)
END
;;
*uuid) printf 'GPU-1a\\nGPU-2b\\n';;
*) printf 'NVIDIA A100-SXM4-80GB, 81920, 81000, Enabled\\nNVIDIA A100-SXM4-80GB, 81920, 80000, Disabled\\n';;
esac"""
WHOLE, LARGE, SMALL = "NVIDIA A100-SXM4-80GB", "NVIDIA A100-SXM4-80GB MIG 3g.40gb", "NVIDIA A100-SXM4-80GB MIG 1g.10gb"


@pytest.mark.parametrize(
    ("visible", "name", "count"),
    [
        (None, LARGE, 1),
        ("", "none", 0),
        ("-1", "none", 0),
        (" ", "none", 0),
        ("MIG-2", SMALL, 1),
        ("MIG-2,MIG-1", SMALL, 1),
        (" MIG-2 , MIG-1", SMALL, 1),
        ("MIG-9", "none", 0),
        ("GPU-2b", WHOLE, 1),
        ("1", WHOLE, 1),
        ("GPU-1a", LARGE, 1),
        ("0", LARGE, 1),
        ("1,0", WHOLE, 1),
    ],
)
def test_one_gpu_is_cut_into_slices_and_another_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, name: str, count: int
) -> None:
    stand_in(tmp_path, monkeypatch, MIXED)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = gpus.visible_gpus()
    assert found[:2] == (name, count)
    assert found[3] == {WHOLE: 80_000, LARGE: 38_912, SMALL: 9_728, "none": 0}[name] * gpus.MIB
