"""GPUs: what nvidia-smi reports of those this process may use, and the data sheets of known ones."""

import difflib
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import TypeVar

from medsft.errors import UserError

MIB = 2**20
ANSWERS_WITHIN = 60  # seconds; eight GPUs without persistence mode were seen to take more than five


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
    "rtx5090": (32_607, 210, 1792),
    "rtx3090": (24_576, 71, 936),
    "b200": (183_359, 2250, 8000),
    "gh200": (97_871, 989, 4000),
    "a40": (46_068, 150, 696),
    "a10g": (23_028, 70, 600),
    "l4": (23_034, 121, 300),
    "t4": (15_360, 65, 320),
    "v100-32gb": (32_768, 125, 900),
}


Reported = tuple[str, int, int]  # name, total bytes, free bytes
Row = TypeVar("Row")


def visible_gpus() -> tuple[str, int, int, int]:
    """(name, count, total bytes, free bytes) of the GPUs this process may use; the smallest one's memory."""
    rows, cut = _memory()
    rows = _of_cut_machine(rows, cut) if any(cut) else _visible(rows)
    if not rows:
        return "none", 0, 0, 0
    return rows[0][0], len(rows), min(row[1] for row in rows), min(row[2] for row in rows)


def largest_gpu() -> int:
    """The number, as nvidia-smi counts, of this machine's GPU with the most memory; the first of several."""
    sizes = [row[1] for row in _memory()[0]]
    return sizes.index(max(sizes)) if sizes else 0


def _visible(rows: list[Row]) -> list[Row]:
    """Those of `rows`, one for each GPU of this machine, that CUDA_VISIBLE_DEVICES leaves to this process.

    By number, or by a UUID, of which the beginning is enough. A slice (MIG-...) counts as the first GPUs do.
    """
    wanted = _wanted()
    if wanted is None:
        return rows
    if all(part.isdigit() for part in wanted):
        return [rows[int(part)] for part in wanted if int(part) < len(rows)]
    uuids = [line.strip() for line in nvidia_smi("uuid")]
    named = [rows[at] for part in wanted for at, uuid in enumerate(uuids[: len(rows)]) if uuid.startswith(part)]
    return named or rows[: len(wanted)]


def _wanted() -> list[str] | None:
    """What CUDA_VISIBLE_DEVICES names; [] where it hides every GPU, None where it is not set."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    parts = None if visible is None else [part.strip() for part in visible.split(",")]
    return parts and [part for part in parts if part not in ("", "-1")]


def nvidia_smi(fields: str, seconds: float = ANSWERS_WITHIN) -> list[str]:
    """A line for each GPU of this machine; [] without a GPU or a working driver. Raises UserError without an answer.

    `fields`: those of nvidia-smi's --query-gpu, separated by commas. Asked once a process.
    """
    return _lines(seconds, f"--query-gpu={fields}", "--format=csv,noheader,nounits")


def _lines(seconds: float, *options: str) -> list[str]:
    binary = shutil.which("nvidia-smi")
    return [] if binary is None else [*_asked(binary, Path(binary).stat().st_mtime_ns, seconds, *options)]


@cache
def _asked(binary: str, _changed: int, seconds: float, *options: str) -> tuple[str, ...]:
    try:
        answer = subprocess.run([binary, *options], capture_output=True, text=True, timeout=seconds, check=True).stdout
    except subprocess.TimeoutExpired as error:  # taken for "no GPU", it would choose the settings of a processor
        raise UserError(
            f"nvidia-smi gives no answer within {seconds:g} s; with persistence mode it answers at once "
            "(nvidia-smi -pm 1, as root); or hide the GPUs: CUDA_VISIBLE_DEVICES= with --use_cpu true"
        ) from error
    except (subprocess.SubprocessError, OSError):
        return ()
    return tuple(answer.splitlines())


def compute_capability() -> float:
    """The lowest CUDA compute capability of the GPUs this process may use, such as 8.0 for an A100; 0 without one."""
    try:
        return min((float(line) for line in _visible(nvidia_smi("compute_cap"))), default=0.0)
    except ValueError:
        return 0.0


def _memory() -> tuple[list[Reported], list[bool]]:
    """(whole GPUs, whether each is cut into MIG slices)."""
    lines = nvidia_smi("name,memory.total,memory.free,mig.mode.current")
    fields = [[part.strip() for part in line.split(",")] for line in lines]
    # A GPU that shares the host's memory reports '[N/A]': it is planned as a machine without one.
    known = [f for f in fields if f[2:] and all(n.isdigit() for n in f[1:3])]
    return [(f[0], int(f[1]) * MIB, int(f[2]) * MIB) for f in known], [f[3:] == ["Enabled"] for f in known]


def _of_cut_machine(rows: list[Reported], cut: list[bool]) -> list[Reported]:
    """What a process may use where some GPUs are cut: the whole ones it names, else the one slice that CUDA gives it.

    That of the first UUID it names, or the first of the GPU it names; [] where there is none.
    """
    wanted, slices = _wanted(), _slices()
    if wanted and wanted[0].startswith("MIG-"):
        chosen = [row for _, uuid, row in slices if uuid == wanted[0]]
    elif wanted is None:
        chosen = [row for _, _, row in slices]
    else:
        named = _visible([*range(len(rows))])
        if not named or not cut[named[0]]:
            return [rows[at] for at in named if not cut[at]]
        chosen = [row for at, _, row in slices if at == named[0]]
    return chosen[:1]


def _slices() -> list[tuple[int, str, Reported]]:
    """(number of its GPU, UUID, what it has) of each MIG slice.

    nvidia-smi names a slice by its profile, such as 3g.40gb, of which a twentieth is not for programs.
    """
    at, name, found = 0, "", []
    for line in _lines(ANSWERS_WITHIN, "-L"):
        if whole := re.match(r"GPU (\d+): (.+?) \(UUID", line):
            at, name = int(whole[1]), whole[2]
        elif part := re.match(r"\s+MIG (\S*?(\d+)gb\S*)\s.*\(UUID: (MIG-[^)]+)\)", line):
            size = int(0.95 * int(part[2]) * 1024) * MIB
            found.append((at, part[3], (f"{name} MIG {part[1]}", size, size)))
    return found


def known_name(reported: str) -> str | None:
    """'NVIDIA A100-SXM4-80GB' -> 'a100-80gb'; None where the table has no such GPU, as for a MIG slice of one."""
    if " MIG " in reported:
        return None
    words = set(re.split(r"[^a-z0-9]+", reported.lower().replace("geforce rtx ", "rtx")))
    return next((name for name in KNOWN_GPUS if set(name.split("-")) <= words), None)


def known(gpu: str) -> tuple[int, float, float]:
    """The entry of KNOWN_GPUS. Raises UserError that names the nearest one."""
    if gpu.lower() in KNOWN_GPUS:
        return KNOWN_GPUS[gpu.lower()]
    if gpu.lower().startswith("mi"):
        raise UserError(
            f"{gpu} is a GPU of AMD: these recipes run on NVIDIA's and on processors; known are {', '.join(KNOWN_GPUS)}"
        )
    begins = [name for name in KNOWN_GPUS if name.startswith(gpu.lower())]
    near = begins or difflib.get_close_matches(gpu.lower(), [*KNOWN_GPUS, "none"], n=1, cutoff=0.4)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise UserError(f"unknown GPU '{gpu}': {hint}known are {', '.join(KNOWN_GPUS)} and none")
