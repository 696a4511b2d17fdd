"""Room for checkpoints and downloads, looked at before a weight is loaded."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medsft.errors import DoesNotFit
from medsft.models import loading
from medsft.models.parameter_counts import known_config
from medsft.training.micro_batch import Run
from medsft.training.setup import disk

MISTRAL = "mistralai/Mistral-7B-Instruct-v0.2"
N = 7_241_732_096


def run(strategy: str, **changes: object) -> Any:
    config = SimpleNamespace(**({"save_strategy": "steps", "save_total_limit": 2} | changes))
    return Run(strategy, MISTRAL, config, {"lora_r": 16}, 512, 300.0)


@pytest.fixture(autouse=True)
def mistral(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(loading, "load_config", known_config)
    monkeypatch.setattr(disk, "CACHE", tmp_path / "elsewhere" / "hub")


def free(monkeypatch: pytest.MonkeyPatch, gigabytes: float) -> None:
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: SimpleNamespace(free=int(gigabytes * 1e9)))


def test_three_checkpoints_exist_for_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """14 bytes a weight each under ZeRO-3, and the trained weights beside them: 318.6 GB for Mistral-7B."""
    needed = (3 * 14 + 2) * N / 1e9
    free(monkeypatch, needed - 1)
    with pytest.raises(DoesNotFit, match=r"3 checkpoints .* take 318\.6 GB of disk.*--save_total_limit 1"):
        disk.check_disk(tmp_path, run("full_zero3_offload"), keeps=True)
    disk.check_disk(tmp_path, run("full_zero3_offload", save_total_limit=1), keeps=True)
    disk.check_disk(tmp_path, run("full_zero3_offload", save_strategy="no"), keeps=False)
    (tmp_path / "checkpoint-2").mkdir()
    with (tmp_path / "checkpoint-2" / "model.safetensors").open("wb") as file:
        file.truncate(2 * 10**9)  # a run that was interrupted needs no more than before
    disk.check_disk(tmp_path, run("full_zero3_offload"), keeps=True)


def test_a_download_that_does_not_fit_the_cache_names_where_to_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "try_to_load_from_cache", lambda *_: None)
    free(monkeypatch, 14)
    with pytest.raises(DoesNotFit, match=r"a download of 14\.5 GB.*HF_HOME"):
        disk.check_disk(tmp_path, run("lora"), keeps=True)
    monkeypatch.setattr(disk, "try_to_load_from_cache", lambda *_: "there")
    disk.check_disk(tmp_path, run("lora"), keeps=True)
