"""Facts of the machine: GPUs, host memory (the container's limit included), disk, processor.

Nothing heavy is imported: every script's preflight checks read these facts before torch is loaded.
"""

import os
import platform
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from medsft.errors import UserError
from medsft.hardware.cgroups import cgroup_cpus, host_memory, read
from medsft.hardware.gpus import KNOWN_GPUS, MIB, known, known_name, visible_gpus
from medsft.text import parse_bytes


@dataclass(frozen=True)
class Hardware:
    """One machine, or several alike (`nodes`). Sizes in bytes; `device_bytes` is of one GPU, and 0 without a GPU.

    `gpus` of each machine: one process each. `tflops` (bf16, dense) and `bandwidth` (GB/s) are those of one GPU, None
    where it is not in `KNOWN_GPUS`.
    """

    gpu: str
    gpus: int
    device_bytes: int
    device_available_bytes: int
    tflops: float | None
    bandwidth: float | None
    host_bytes: int
    host_available_bytes: int
    disk_bytes: int
    cpus: int
    nodes: int = 1

    @property
    def ranks(self) -> int:
        """Processes of a launch that uses every GPU; 1 without one."""
        return max(1, self.gpus) * self.nodes

    def without_gpus(self) -> "Hardware":
        """The same machine for a run on its processors."""
        return replace(self, gpu="none", gpus=0, device_bytes=0, device_available_bytes=0, tflops=None, bandwidth=None)


def machine(path: Path | str) -> Hardware:
    """What this machine has; `disk_bytes` is free where `path` is (or will be made)."""
    gpu, gpus, total, free = visible_gpus()
    _, tflops, bandwidth = KNOWN_GPUS.get(known_name(gpu) or "", (0, None, None))
    host, available = host_memory()
    existing = next(p for p in [Path(path).absolute(), *Path(path).absolute().parents] if p.exists())
    disk, cpus = shutil.disk_usage(existing).free, min(len(os.sched_getaffinity(0)), cgroup_cpus())
    return Hardware(gpu, gpus, total, free, tflops, bandwidth, host, available, disk, cpus)


def described(
    here: Hardware, gpu: str | None = None, gpus: int | None = None, host: str | None = None, disk: str | None = None,
    nodes: int | None = None,
) -> Hardware:  # fmt: skip
    """`here` with the parts that the user describes replaced. Raises UserError for what makes no sense."""
    if nodes is not None:
        if nodes < 1:
            raise UserError(f"--nodes {nodes}: must be 1 or more")
        here = replace(here, nodes=nodes)
    if gpu is not None:
        memory, tflops, bandwidth = (0, None, None) if gpu.lower() == "none" else known(gpu)
        count = 0 if gpu.lower() == "none" else 1
        here = replace(here, gpu=gpu.lower(), gpus=count, tflops=tflops, bandwidth=bandwidth)
        here = replace(here, device_bytes=memory * MIB, device_available_bytes=memory * MIB)
    if gpus is not None and (gpus < 0 or (gpus > 0 and here.gpus == 0)):
        raise UserError(f"--gpus {gpus}: there is no GPU to count; name one with --gpu, such as --gpu a100-80gb")
    if gpus == 0:
        here = described(here, gpu="none")
    here = replace(here, gpus=here.gpus if gpus is None else gpus)
    if host is not None:
        here = replace(here, host_bytes=parse_bytes(host), host_available_bytes=parse_bytes(host))
    return here if disk is None else replace(here, disk_bytes=parse_bytes(disk))


def launched(here: Hardware, world_size: int) -> Hardware:
    """`here` as a launch of `world_size` processes uses it: a GPU of it for each process on this machine."""
    if not here.gpus:
        return here
    local = int(os.environ.get("LOCAL_WORLD_SIZE", world_size))
    return replace(here, gpus=local, nodes=max(1, world_size // local))


def has_bf16_cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor multiplies bfloat16 itself; where it does not, bf16 training is many times slower."""
    return bool({"avx512_bf16", "amx_bf16"} & set(read(cpuinfo).split()))


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor as the system names it; its architecture where the system does not."""
    named = (line.split(":", 1)[1].strip() for line in read(cpuinfo).splitlines() if line.startswith("model name"))
    return next(named, platform.machine())
