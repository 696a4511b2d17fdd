"""Energy from counters: those of processors as files, that of a GPU through NVIDIA's library, played by a double."""

import sys
import types
from pathlib import Path

import pytest

from medsft.hardware import energy


def zone(rapl: Path, name: str, kind: str, microjoules: int) -> Path:
    folder = rapl / name
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{kind}\n")
    (folder / "max_energy_range_uj").write_text("1000000\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    return folder / "energy_uj"


def test_sockets_are_added_and_a_counter_may_start_again(tmp_path: Path) -> None:
    first, second = (zone(tmp_path, f"intel-rapl:{i}", f"package-{i}", 900_000) for i in (0, 1))
    zone(tmp_path, "intel-rapl:0:0", "dram", 5)  # a part of the first socket
    zone(tmp_path, "intel-rapl:2", "psys", 5)  # the whole platform, sockets included
    meter = energy.Energy(processor=True, rapl=tmp_path)
    assert meter.names() == "processor package-0 (RAPL), processor package-1 (RAPL)"
    first.write_text("950000")
    second.write_text("150000")  # went through 1,000,000
    assert meter.joules() == pytest.approx(0.05 + 0.25)
    assert meter.joules() == 0
    assert energy.Energy(processor=False, rapl=tmp_path).names() == ""


def test_a_counter_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 1).unlink()
    assert energy.Energy(processor=True, rapl=tmp_path).counters == []
    assert energy.processor_counters(tmp_path / "nowhere") == []


class RefusedError(Exception):
    pass


@pytest.mark.parametrize("has_counter", [True, False])
def test_the_gpu_of_this_process_is_asked(monkeypatch: pytest.MonkeyPatch, has_counter: bool) -> None:
    import torch

    millijoules = iter([100, 1_000, 3_500])

    def consumption(handle: str) -> int:
        if not has_counter:
            raise RefusedError
        assert handle == "handle of GPU-11-22"
        return next(millijoules)

    library = types.SimpleNamespace(
        nvmlInit=lambda: None,
        NVMLError=RefusedError,
        nvmlDeviceGetHandleByUUID=lambda uuid: f"handle of {uuid}",
        nvmlDeviceGetTotalEnergyConsumption=consumption,
    )
    monkeypatch.setitem(sys.modules, "pynvml", library)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: types.SimpleNamespace(uuid="11-22"))
    meter = energy.Energy(processor=False)
    assert meter.names() == ("GPU (NVML)" if has_counter else "")
    assert meter.joules() == (2.5 if has_counter else 0)


def test_a_gpu_without_nvidias_library_is_trained_on_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setitem(sys.modules, "pynvml", None)  # importing it fails
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert energy.Energy(processor=False).counters == []
