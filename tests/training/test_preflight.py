"""What cannot work is refused before a weight is loaded, on machines that are not this one."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import RECIPES
from medsft.config import command_line
from medsft.errors import DoesNotFit, UserError
from medsft.hardware import specs
from medsft.training import preflight

DEMO = RECIPES / "configs" / "demo" / "lora.yaml"
MISTRAL = RECIPES / "configs" / "mistral_7b" / "lora.yaml"


@pytest.fixture(autouse=True)
def without_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOCAL_RANK", "CUDA_VISIBLE_DEVICES", "DS_ACCELERATOR", "ACCELERATE_MIXED_PRECISION"):
        monkeypatch.delenv(name, raising=False)


def with_gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    here = specs.described(specs.machine("."), "a100-80gb" if count else "none", count or None, "512GB", "4TB")
    monkeypatch.setattr(preflight, "machine", lambda _: here)


def test_several_gpus_need_a_launcher_and_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, 4)
    with pytest.raises(
        UserError, match=r"4 GPUs are visible.*accelerate launch --num_processes 4.*CUDA_VISIBLE_DEVICES=0"
    ):
        preflight.check_machine(command_line(MISTRAL, given=[]))
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setattr(preflight, "hub_reachable", lambda: True)
    preflight.check_machine(command_line(MISTRAL, given=[]))  # started by a launcher


def test_one_process_of_accelerates_launcher_takes_one_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """single_gpu.yaml on a machine with two: started as a plain process, with accelerate's variables."""
    with_gpus(monkeypatch, 2)
    monkeypatch.setattr(preflight, "hub_reachable", lambda: True)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    preflight.check_machine(command_line(MISTRAL, given=[]))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    preflight.check_machine(command_line(MISTRAL, given=[]))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    assert "it takes GPU 3" in capsys.readouterr().out


def test_a_recipe_for_a_processor_does_not_mind_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, 4)
    preflight.check_machine(command_line(DEMO, given=[]))
    # DeepSpeed would take CUDA, and the weights would be where the inputs are not
    assert (os.environ["CUDA_VISIBLE_DEVICES"], os.environ["DS_ACCELERATOR"]) == ("", "cpu")


def test_the_launchers_one_thread_becomes_a_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    here = replace(specs.machine("."), cpus=32)
    for name, value in (("PYTORCH_ALLOC_CONF", ""), ("OMP_NUM_THREADS", "1"), ("LOCAL_WORLD_SIZE", "4")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.delenv("PYTORCH_ALLOC_CONF")
    preflight.settle_environment(here)  # without a launcher it is the user's own choice
    assert (os.environ["OMP_NUM_THREADS"], os.environ["PYTORCH_ALLOC_CONF"]) == ("1", "expandable_segments:True")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    preflight.settle_environment(here)
    assert os.environ["OMP_NUM_THREADS"] == "8"


def test_nvme_beside_a_gpu_needs_nvidias_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, 1)
    monkeypatch.setattr(preflight.deepspeed_ops, "cuda_toolkit", lambda: False)
    with pytest.raises(UserError, match=r"CUDA toolkit.*make fft-offload"):
        preflight.check_machine(command_line(MISTRAL.with_name("full_nvme.yaml"), given=[]))
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_without_a_gpu_and_without_the_hub_both_are_named_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with_gpus(monkeypatch, 0)
    monkeypatch.setattr(preflight, "hub_reachable", lambda: False)
    with pytest.raises(DoesNotFit, match=r"needs an NVIDIA GPU.*OpenMed/MedDialog.*hub cannot be reached.*make demo"):
        preflight.check_machine(command_line(MISTRAL, given=[]))


def test_local_data_in_a_list_or_by_a_pattern_needs_no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(preflight, "hub_reachable", lambda: False)
    rows = tmp_path / "rows.jsonl"
    rows.write_text("{}\n")
    for name in ("data.yaml", "lora.yaml"):
        (tmp_path / name).write_text((DEMO.parent / name).read_text(encoding="utf-8"), encoding="utf-8")
    words = ["--study_dir", str(tmp_path / "study")]
    for data in ("sample", f"[sample, {rows}]", f"{tmp_path}/r*.jsonl", str(tmp_path)):
        (tmp_path / "data.yaml").write_text(f"data: {data}\n")
        preflight.check_machine(command_line(tmp_path / "lora.yaml", given=words))
    (tmp_path / "data.yaml").write_text("data: [sample, OpenMed/MedDialog]\n")
    with pytest.raises(UserError, match=r"needs OpenMed/MedDialog \(not on this machine"):
        preflight.check_machine(command_line(tmp_path / "lora.yaml", given=words))


def test_one_process_takes_the_largest_gpu_where_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, 2)
    monkeypatch.setattr(preflight, "hub_reachable", lambda: True)
    monkeypatch.setattr(preflight, "largest_gpu", lambda: 1)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    preflight.check_machine(command_line(MISTRAL, given=[]))
    assert (os.environ["CUDA_VISIBLE_DEVICES"], os.environ["CUDA_DEVICE_ORDER"]) == ("1", "PCI_BUS_ID")
