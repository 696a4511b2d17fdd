"""Facts of the machine: GPUs, host memory (the container's limit included), disk, processor, reachable hub.

Nothing heavy is imported: the guards of every script read these facts before torch is loaded.
"""

import difflib
import os
import re
import shutil
import socket
import subprocess
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

import psutil

from medsft.cli import UserError

MIB = 2**20
UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}

# Memory as nvidia-smi reports it (MiB), dense bf16 TFLOP/s with fp32 accumulation, memory bandwidth in GB/s, from
# NVIDIA's data sheets (SXM variants where there are several). T4 and V100 have no bf16 units: theirs is fp16.
KNOWN_GPUS: dict[str, tuple[int, float, float]] = {
    "a100-80gb": (81_920, 312, 2039),
    "a100-40gb": (40_960, 312, 1555),
    "h100": (81_559, 989, 3350),
    "h200": (143_771, 989, 4800),
    "l40s": (46_068, 362, 864),
    "a6000": (49_140, 155, 768),
    "rtx4090": (24_564, 165, 1008),
    "rtx3090": (24_576, 71, 936),
    "l4": (23_034, 121, 300),
    "t4": (15_360, 65, 320),
    "v100-32gb": (32_768, 125, 900),
}


@dataclass(frozen=True)
class Hardware:
    """One machine. Sizes in bytes; `device_bytes` is the memory of one GPU and 0 without a GPU.

    `tflops` (bf16, dense) and `bandwidth` (GB/s) are those of one GPU, None where it is not in `KNOWN_GPUS`.
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


def machine(path: Path | str) -> Hardware:
    """What this machine has; `disk_bytes` is free where `path` is (or will be made)."""
    gpu, gpus, total, free = _visible_gpus()
    _, tflops, bandwidth = KNOWN_GPUS.get(_known_name(gpu) or "", (0, None, None))
    host, available = host_memory()
    existing = next(p for p in [Path(path).absolute(), *Path(path).absolute().parents] if p.exists())
    disk, cpus = shutil.disk_usage(existing).free, min(len(os.sched_getaffinity(0)), cgroup_cpus())
    return Hardware(gpu, gpus, total, free, tflops, bandwidth, host, available, disk, cpus)


def described(
    here: Hardware, gpu: str | None = None, gpus: int | None = None, host: str | None = None, disk: str | None = None
) -> Hardware:
    """`here` with the parts that the user describes in words put in place. Raises UserError for what makes no sense."""
    if gpu is not None:
        memory, tflops, bandwidth = (0, None, None) if gpu.lower() == "none" else _known(gpu)
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


def parse_bytes(text: str) -> int:
    """'167GB' -> 167_000_000_000. kB, MB, GB, TB are decimal; KiB, MiB, GiB, TiB binary. Raises UserError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]+)", text.strip().lower(), re.ASCII)
    if match is None or match[2] not in UNITS:
        raise UserError(f"'{text}' is not a size; write for example 167GB (decimal) or 160GiB (binary)")
    return round(float(match[1]) * UNITS[match[2]])


def host_memory() -> tuple[int, int]:
    """(total, available) bytes of host memory: the machine's or the container's, whichever is smaller."""
    memory = psutil.virtual_memory()
    limit, available = cgroup_memory()
    return min(memory.total, limit), min(memory.available, available)


def disk_traffic(own: Path = Path("/proc/self/io")) -> tuple[int, int]:
    """Bytes that this process has caused to be read from and written to disks so far (proc(5)); zeros if not known."""
    counts = dict(line.split(": ") for line in _read(own).splitlines())
    return int(counts.get("read_bytes", 0)), int(counts.get("write_bytes", 0))


def cgroup_memory(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> tuple[int, int]:
    """(limit, available) bytes of the control groups this process is in, the tightest of each; 2**63 without a limit.

    The inactive page cache counts as available: the kernel gives it back before it kills (as in `docker stats`).
    """
    limits, available = [2**63], [2**63]
    for folder, limit_file, used_file, cache in _cgroup_folders(root, own):
        limit = _read(folder / limit_file).strip()
        if not limit.isdigit():  # absent, or 'max'
            continue
        reclaimable = re.search(rf"^{cache} (\d+)$", _read(folder / "memory.stat"), re.MULTILINE)
        used = int(_read(folder / used_file) or 0) - (int(reclaimable[1]) if reclaimable else 0)
        limits.append(int(limit))
        available.append(int(limit) - max(0, used))
    return min(limits), max(0, min(available))


def cgroup_cpus(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Processors that the control group's quota amounts to, rounded up (`docker run --cpus`); 2**15 without one."""
    quota, period = (*_read(root / "cpu.max").split(), "", "")[:2]
    if not quota:  # version 1, where -1 means none
        quota, period = (_read(root / "cpu" / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    return max(1, -(-int(quota) // int(period))) if quota.isdigit() and period.isdigit() else 2**15


def has_bf16_cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor multiplies bfloat16 itself; where it does not, bf16 training is many times slower."""
    return bool({"avx512_bf16", "amx_bf16"} & set(_read(cpuinfo).split()))


def hub_reachable(timeout: float = 3) -> bool:
    """Whether a TCP connection to the model hub (or to the proxy in front of it) opens. No data is sent."""
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}:
        return False
    hub = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    proxy = None if proxy_bypass(hub.hostname or "") else getproxies().get(hub.scheme)
    target = urlsplit(proxy) if proxy else hub
    answers: list[bool] = []
    # In a thread of its own, because looking up the name has no time limit and may hang behind a firewall.
    thread = threading.Thread(target=lambda: answers.append(_connects(target, timeout)), daemon=True)
    thread.start()
    thread.join(timeout)
    return answers == [True]


def _visible_gpus() -> tuple[str, int, int, int]:
    """(name, count, total bytes, free bytes) of the GPUs this process may use; the smallest one's memory."""
    rows = _nvidia_smi()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        wanted = [part.strip() for part in visible.split(",") if part.strip() not in ("", "-1")]
        # Entries may also be UUIDs: then only their number is known here.
        picked = [rows[int(part)] for part in wanted if part.isdigit() and int(part) < len(rows)]
        rows = picked if all(part.isdigit() for part in wanted) else rows[: len(wanted)]
    if not rows:
        return "none", 0, 0, 0
    return rows[0][0], len(rows), min(row[1] for row in rows), min(row[2] for row in rows)


def _nvidia_smi() -> list[tuple[str, int, int]]:
    binary = shutil.which("nvidia-smi")
    if binary is None:
        return []
    query = [binary, "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=5, check=True).stdout
    except (subprocess.SubprocessError, OSError):
        return []
    fields = [[part.strip() for part in line.rsplit(",", 2)] for line in answer.splitlines()]
    # A GPU that shares the host's memory reports '[N/A]': it is planned as a machine without one.
    return [(f[0], int(f[1]) * MIB, int(f[2]) * MIB) for f in fields if f[1:] and all(n.isdigit() for n in f[1:])]


def _known_name(reported: str) -> str | None:
    """'NVIDIA A100-SXM4-80GB' -> 'a100-80gb'; None where the table has no such GPU."""
    words = set(re.split(r"[^a-z0-9]+", reported.lower().replace("geforce rtx ", "rtx")))
    return next((name for name in KNOWN_GPUS if set(name.split("-")) <= words), None)


def _known(gpu: str) -> tuple[int, float, float]:
    if gpu.lower() in KNOWN_GPUS:
        return KNOWN_GPUS[gpu.lower()]
    begins = [name for name in KNOWN_GPUS if name.startswith(gpu.lower())]
    near = begins or difflib.get_close_matches(gpu.lower(), [*KNOWN_GPUS, "none"], n=1, cutoff=0.4)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise UserError(f"unknown GPU '{gpu}': {hint}known are {', '.join(KNOWN_GPUS)} and none")


def _cgroup_folders(root: Path, own: Path) -> list[tuple[Path, str, str, str]]:
    """This process's control groups and their parents, each with its file names (version 1 or 2) for memory."""
    found = []
    for line in _read(own).splitlines():
        _, controllers, group = line.split(":", 2)
        if "memory" in controllers.split(","):
            base, files = root / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        elif controllers == "":
            base, files = root, ("memory.max", "memory.current", "inactive_file")
        else:
            continue
        inside = base / group.lstrip("/")
        found += [(folder, *files) for folder in [inside, *inside.parents] if folder.is_relative_to(base)]
    return found


def _connects(target: SplitResult, timeout: float) -> bool:
    try:
        port = target.port or (443 if target.scheme == "https" else 80)
        with socket.create_connection((target.hostname, port), timeout=timeout):
            return True
    except (OSError, ValueError):
        return False


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
