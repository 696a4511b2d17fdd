"""Compile DeepSpeed's CPU operators once, ahead of time, instead of silently inside the first training.

    python -m medsft.distributed.deepspeed_ops           # build what is missing (one to three minutes)
    python -m medsft.distributed.deepspeed_ops --nvme   # with asynchronous I/O for NVMe (three to five more)

Compiled files stay in the cache (TORCH_EXTENSIONS_DIR, set by the package). Exit status 2 where a tool is missing.
"""

import os
import shutil
import sys
import sysconfig
import time
from contextlib import suppress
from pathlib import Path

from medsft.cli import run
from medsft.errors import UserError
from medsft.hardware.gpus import visible_gpus
from medsft.startup import own_path

# Operator -> what it is for; the shared-memory one makes several CPU processes faster.
BUILDERS = {
    "CPUAdamBuilder": "the optimizer of ZeRO offload",
    "ShareMemCommBuilder": "communication between CPU processes",
    "PinMemoryBuilder": "pinned buffers of exact size",
    "AsyncIOBuilder": "reading and writing optimizer states on NVMe",
}


NO_TOOLKIT = (
    "NVMe offload beside a GPU needs NVIDIA's CUDA toolkit, because DeepSpeed links its asynchronous I/O against it; "
    "install it and set CUDA_HOME, or offload to host memory: make fft-offload"
)


def missing_tools() -> list[str]:
    """What the compiler needs and this machine lacks, each with the Debian/Ubuntu package that brings it."""
    missing = []
    if shutil.which("g++") is None:
        missing.append("g++ (apt-get install g++)")
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").exists():
        missing.append(f"Python.h (apt-get install python{sys.version_info.major}.{sys.version_info.minor}-dev)")
    if shutil.which("ninja", path=own_path()) is None:
        missing.append("ninja (make setup installs it)")
    return missing


def has_libaio() -> bool:
    """Whether the header of asynchronous I/O is where compilers look."""
    return any((Path(folder) / "libaio.h").exists() for folder in ("/usr/include", "/usr/local/include"))


def cuda_toolkit() -> bool:
    """Whether NVIDIA's compiler is where torch looks for it; wheels of torch and the gpu image bring none."""
    named = any(os.environ.get(name) for name in ("CUDA_HOME", "CUDA_PATH"))
    return named or shutil.which("nvcc") is not None or Path("/usr/local/cuda/bin/nvcc").exists()


def remove_stale_locks(cache: Path) -> list[Path]:
    """Delete the locks of compilers that were killed, and return them: torch would wait for their owner forever.

    An owner keeps its lock open (torch.utils.file_baton), so one that no process of this machine has open is stale.
    """
    locks = set(cache.resolve().glob("*/lock"))
    if not locks:
        return []
    import psutil

    for process in psutil.process_iter():
        with suppress(psutil.Error):
            locks -= {Path(file.path) for file in process.open_files()}
    for lock in locks:
        lock.unlink(missing_ok=True)
    return sorted(locks)


def main() -> None:
    missing = missing_tools()
    if missing:
        raise UserError(f"DeepSpeed's operators cannot be compiled without {', '.join(missing)}; all else works")

    if "--nvme" in sys.argv and not has_libaio():
        raise UserError("NVMe offload needs libaio.h (apt-get install libaio-dev)")
    if "--nvme" in sys.argv and visible_gpus()[1] and not cuda_toolkit():
        raise UserError(NO_TOOLKIT)
    os.environ.setdefault("MAX_JOBS", str(min(4, os.cpu_count() or 1)))  # a compile takes 1.5 GB of memory
    remove_stale_locks(Path(os.environ["TORCH_EXTENSIONS_DIR"]))
    from deepspeed.accelerator import get_accelerator
    from rich.console import Console

    console = Console(stderr=True)
    for name, purpose in BUILDERS.items():
        if name == "AsyncIOBuilder" and "--nvme" not in sys.argv:
            continue
        if name == "PinMemoryBuilder" and not visible_gpus()[1]:  # there is nothing to pin for
            continue
        started = time.monotonic()
        with console.status(
            f"compiling {name.removesuffix('Builder')}, {purpose}: one to three minutes the first time"
        ):
            builder = get_accelerator().create_op_builder(name)
            if builder is None:  # not for this accelerator: CUDA's has no shared-memory communication
                continue
            builder.load(verbose=False)
        console.print(f"{name.removesuffix('Builder')}, {purpose}: ready ({time.monotonic() - started:.0f} s)")


if __name__ == "__main__":
    run(main, __doc__)
