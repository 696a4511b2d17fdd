"""Energy in joules as the machine's own counters report it: NVIDIA GPUs by NVML, processors by RAPL where readable.

Linux lets only root read RAPL since 2020, so most machines without a GPU have no counter, and no energy is reported.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

RAPL = Path("/sys/class/powercap")


class Counter(NamedTuple):
    """A counter that only rises: `read` gives microjoules, and starts again at 0 after `wraps_at` (0: never)."""

    name: str
    read: Callable[[], int]
    wraps_at: int


class Energy:
    """Joules spent between two looks at the counters of this process's GPU and, with `processor`, of the sockets."""

    def __init__(self, processor: bool, rapl: Path = RAPL) -> None:
        self.counters = [*gpu_counters(), *(processor_counters(rapl) if processor else [])]
        self._before = [counter.read() for counter in self.counters]

    def joules(self) -> float:
        """Since the last look, or since the start."""
        before, self._before = self._before, [counter.read() for counter in self.counters]
        spent = [
            now - then if now >= then else now - then + counter.wraps_at
            for counter, then, now in zip(self.counters, before, self._before, strict=True)
        ]
        return sum(spent) / 1e6

    def names(self) -> str:
        return ", ".join(counter.name for counter in self.counters)


def gpu_counters() -> list[Counter]:
    """The counter of the current GPU (Volta and later have one); none without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return []
    try:
        import pynvml
    except ImportError:  # then nothing counts joules, and training goes on
        return []
    try:
        pynvml.nvmlInit()
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{properties.uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError:
        return []
    return [Counter("GPU (NVML)", lambda: 1000 * int(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)), 0)]


def processor_counters(rapl: Path) -> list[Counter]:
    """One counter a socket; none where the kernel has none or keeps them from this user."""
    found = []
    for zone in sorted(rapl.glob("*-rapl:[0-9]*")):
        try:
            name = (zone / "name").read_text().strip()
            wraps_at = int((zone / "max_energy_range_uj").read_text())
            read = partial(_number, zone / "energy_uj")
            read()
        except (OSError, ValueError):
            continue
        if name.startswith("package"):  # not its parts (cores, memory), nor psys, which holds the packages
            found.append(Counter(f"processor {name} (RAPL)", read, wraps_at))
    return found


def _number(file: Path) -> int:
    return int(file.read_text())
