"""Check what on this machine or in this container prevents training, and how to fix it.

    python recipes/doctor.py      # or: make doctor; in an image: docker run --rm --gpus all medsft:gpu make doctor

One line per finding: 'ok', 'look' (slower or narrower than it could be) or 'stop' (something will not run), and a
remedy.
Nothing is changed, nothing is sent. Exit status 3 where a finding is 'stop', else 0.
"""

import ctypes.util
import os
import resource
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from medsft import hub
from medsft.arguments import DoctorArguments
from medsft.cli import run
from medsft.config import parse
from medsft.distributed import deepspeed_ops
from medsft.errors import DoesNotFit
from medsft.hardware import cgroups, specs
from medsft.hardware.gpus import nvidia_smi
from medsft.hub import cache_folder

# First driver branch that runs a CUDA major version (NVIDIA, CUDA compatibility guide: minor versions are compatible).
OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}
SHARED_MEMORY = Path("/dev/shm")
GB = 10**9


class Finding(NamedTuple):
    """`grade` is ok, look or stop; `remedy` is empty where it is ok."""

    grade: str
    what: str
    found: str
    remedy: str = ""


def main() -> None:
    (args,) = parse([DoctorArguments])
    findings = [
        *processors(),
        *gpus(),
        *between_processes(),
        *memory(),
        *disk(Path(args.study_dir)),
        *compiler(),
        *caches(),
        *model_hub(),
    ]
    width = max(len(finding.what) for finding in findings)
    for grade, what, found, remedy in findings:
        print(f"{grade:<5} {what:<{width}}  {found}")
        if remedy:
            print(f"{'':<{width + 8}}-> {remedy}")
    stops = [finding.what for finding in findings if finding.grade == "stop"]
    if stops:
        raise DoesNotFit(f"{', '.join(stops)}: see above for what to do")


def processors() -> Iterator[Finding]:
    """Processors that may be used, and whether the threads that will be started are as many."""
    here, threads = specs.machine("."), int(os.environ.get("OMP_NUM_THREADS") or 0)
    found = f"{here.cpus}, {'with' if specs.has_bf16_cpu() else 'without'} bf16 arithmetic"
    if threads > here.cpus:
        yield Finding("look", "processors", f"{found}; {threads} threads", f"export OMP_NUM_THREADS={here.cpus}")
    else:
        yield Finding("ok", "processors", found)


def gpus() -> Iterator[Finding]:
    """GPUs, and whether the driver is new enough for the CUDA that torch was built with."""
    import torch

    here, built = specs.machine("."), torch.version.cuda
    if here.gpus == 0:
        if built is None:
            yield Finding("ok", "GPU", "none, and torch is built for processors: the demo, data, plans and reports run")
            return
        hidden = "CUDA_VISIBLE_DEVICES is set to none" if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1") else ""
        remedy = hidden or "docker run --gpus all (with nvidia-container-toolkit), or nvidia.com/gpu in a pod's limits"
        yield Finding("stop", "GPU", f"none seen, though torch is built for CUDA {built}", remedy)
        return
    yield Finding(
        "ok",
        "GPU",
        f"{here.gpus} x {here.gpu}, {here.device_available_bytes / GB:.1f} GB free of {here.device_bytes / GB:.1f} GB",
    )
    if built is None:
        yield Finding(
            "stop",
            "CUDA",
            "torch is built for processors only",
            "make setup TORCH_INDEX= in a new .venv, or the gpu image",
        )
        return
    yield driver(next(iter(nvidia_smi("driver_version")), "").strip(), built)
    if not torch.cuda.is_available():
        yield Finding(
            "stop",
            "CUDA",
            "torch cannot start it",
            "restart the container; then look at nvidia-smi and dmesg on the host",
        )


def driver(version: str, cuda: str) -> Finding:
    """Whether driver `version` ('550.90.07') runs programs built for `cuda` ('13.0')."""
    needed, major = OLDEST_DRIVER.get(int(cuda.split(".")[0]), 0), version.split(".")[0]
    if not major.isdigit():
        remedy = f"run nvidia-smi: its driver must be {needed} or newer"
        return Finding("look", "driver", f"unknown, torch is built for CUDA {cuda}", remedy)
    found = f"{version}, torch is built for CUDA {cuda}"
    if int(major) >= needed:
        return Finding("ok", "driver", found)
    return Finding("stop", "driver", f"{found}, which needs {needed}", f"ask for a host with driver {needed} or newer")


def between_processes() -> Iterator[Finding]:
    """What several processes talk through: shared memory, locked memory, InfiniBand."""
    several = specs.machine(".").gpus > 1
    shared = shutil.disk_usage(SHARED_MEMORY).total if SHARED_MEMORY.is_dir() else 0
    if shared < GB:
        remedy = "docker run --shm-size 8g (or --ipc host); in a pod an emptyDir with medium: Memory at /dev/shm"
        grade = "stop" if several else "look"
        found = f"{shared / GB:.2f} GB" if shared else "none"
        yield Finding(grade, "/dev/shm", f"{found}: too little for several GPUs (NCCL) or data workers", remedy)
    else:
        yield Finding("ok", "/dev/shm", f"{shared / GB:.1f} GB")

    locked = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if locked != resource.RLIM_INFINITY and locked < GB:
        remedy = (
            "docker run --ulimit memlock=-1; on Slurm PropagateResourceLimitsExcept=MEMLOCK; else ulimit -l unlimited"
        )
        yield Finding(
            "look", "locked memory", f"{locked / 2**20:.0f} MiB: too little for InfiniBand and for NVMe offload", remedy
        )
    else:
        yield Finding(
            "ok", "locked memory", "unlimited" if locked == resource.RLIM_INFINITY else f"{locked / GB:.1f} GB"
        )
    yield from transport(Path("/sys/class/infiniband"))


def transport(devices: Path) -> Iterator[Finding]:
    """What NCCL will take between machines: InfiniBand where its devices and libraries are there, else TCP."""
    import torch

    nccl = ".".join(map(str, torch.cuda.nccl.version())) if torch.distributed.is_nccl_available() else ""
    version = f"NCCL {nccl}" if nccl else "gloo (torch has no NCCL)"
    cards = sorted(path.name for path in devices.iterdir()) if devices.is_dir() else []
    wired = (
        ", ".join(name for _, name in socket.if_nameindex() if not name.startswith(("lo", "docker", "veth")))
        or "no network"
    )
    if not cards or not nccl:
        yield Finding("ok", "between machines", f"{version} over TCP ({wired}); choose one with NCCL_SOCKET_IFNAME")
    elif os.environ.get("NCCL_IB_DISABLE") == "1":
        yield Finding(
            "look",
            "between machines",
            f"{version} over TCP, though there is {', '.join(cards)}",
            "unset NCCL_IB_DISABLE",
        )
    elif ctypes.util.find_library("ibverbs") is None:
        remedy = "apt-get install libibverbs1 ibverbs-providers librdmacm1 (the gpu image has them)"
        yield Finding(
            "look", "between machines", f"{version} falls back to TCP: no libibverbs for {', '.join(cards)}", remedy
        )
    elif not Path("/dev/infiniband").is_dir():
        remedy = "docker run --device /dev/infiniband; in a pod the resource of the RDMA device plugin"
        yield Finding(
            "look", "between machines", f"{version} falls back to TCP: {', '.join(cards)} not in this container", remedy
        )
    else:
        yield Finding(
            "ok", "between machines", f"{version} over {', '.join(cards)} (NCCL_DEBUG=INFO shows what it took)"
        )


def memory() -> Iterator[Finding]:
    """Host memory, the control group's limit included: the figures that the memory plan uses."""
    limit, (total, available) = cgroups.cgroup_memory()[0], cgroups.host_memory()
    whose = "limit of this container" if limit <= total else "of the machine, no limit"
    found = f"{available / GB:.1f} GB free of {total / GB:.1f} GB ({whose}); the plan goes by this"
    if available < 7 * GB:
        yield Finding(
            "look", "host memory", found, "the demo needs 7 GB, its ZeRO-3 arm 11 GB: docker run --memory, or free some"
        )
    else:
        yield Finding("ok", "host memory", found)


def disk(study_dir: Path) -> Iterator[Finding]:
    """Where studies are written: space, and whether this uid may."""
    folder = study_dir.resolve()
    writable = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(writable).free
    if not os.access(writable, os.W_OK):
        remedy = f'mount a folder of yours: docker run -v "$PWD/runs:{folder}" --user "$(id -u):$(id -g)"'
        yield Finding("stop", "studies", f"{folder}: uid {os.getuid()} cannot write", remedy)
    elif free < 5 * GB:
        yield Finding(
            "look",
            "studies",
            f"{folder}: {free / GB:.1f} GB free",
            "a LoRA study of a 7B model takes 2 GB, full weights 15 GB each",
        )
    else:
        yield Finding("ok", "studies", f"{folder}: {free / GB:.0f} GB free; the plan goes by this")


def compiler() -> Iterator[Finding]:
    """What DeepSpeed's operators are compiled with, and whether they are."""
    missing, built = deepspeed_ops.missing_tools(), Path(os.environ["TORCH_EXTENSIONS_DIR"])
    if missing:
        yield Finding(
            "look", "compiler", f"missing {', '.join(missing)}", "needed by ZeRO offload alone; all else works"
        )
    elif any(built.glob("*/*.so")):
        yield Finding("ok", "compiler", f"DeepSpeed's operators are compiled, in {built}")
    else:
        remedy = "they are compiled at the first use, one to three minutes; keep them: -v medsft-cache:/cache"
        yield Finding("look", "compiler", "there, but DeepSpeed's operators are not compiled yet", remedy)


def caches() -> Iterator[Finding]:
    """Folders that libraries write to: this uid must be able to."""
    hub_home = os.environ.get("HF_HOME") or str(Path.home() / ".cache" / "huggingface")
    for name, folder in (("MEDSFT_CACHE", cache_folder()), ("HF_HOME", Path(hub_home))):
        there = next(path for path in (folder, *folder.parents) if path.exists())
        if os.access(there, os.W_OK):
            yield Finding("ok", name, f"{folder}: {shutil.disk_usage(there).free / GB:.0f} GB free")
        else:
            yield Finding(
                "stop", name, f"{folder}: uid {os.getuid()} cannot write", f"export {name}=/a/folder/of/yours"
            )


def model_hub() -> Iterator[Finding]:
    """Whether models and data can be downloaded at all."""
    if hub.hub_reachable():
        yield Finding("ok", "model hub", "answers")
    else:
        remedy = "give local folders: --model_name_or_path FOLDER, DATA=FILE; the demo needs none"
        yield Finding("look", "model hub", "not reached, or switched off by HF_HUB_OFFLINE", remedy)


if __name__ == "__main__":
    run(main, __doc__, DoctorArguments)
