"""How fast this processor multiplies matrices in float32 and in bfloat16: measured once per machine, in two seconds."""

import time

from medsft.files import read_json, write_json

SIDE = 1024  # rows and columns: 2.1 GFLOP a product, in the second cache of a core
SECONDS = 1.0  # for each precision
GAIN = 1.2  # bfloat16 keeps 8 bits of a number: it must be clearly faster to be chosen


def measured() -> dict[str, float]:
    """{'float32': ..., 'bfloat16': ...}: GFLOP/s of the fastest of many products, with torch's number of threads.

    Kept in matrix_speed.json of the cache folder under the processor's name, so it is measured once.
    """
    from medsft.hub import cache_folder

    path, key = cache_folder() / "matrix_speed.json", _machine()
    known = read_json(path) if path.is_file() else {}
    if key not in known:
        known[key] = {name: round(fastest(name), 1) for name in ("float32", "bfloat16")}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, known)
        except OSError:  # a read-only home: measured again next time
            pass
    return dict(known[key])


def prefers_bfloat16() -> bool:
    """Whether bfloat16 is clearly the faster precision here."""
    speed = measured()
    return speed["bfloat16"] >= GAIN * speed["float32"]


def fastest(dtype: str, side: int = SIDE, seconds: float = SECONDS) -> float:
    """GFLOP/s (2 x side^3 operations) of the fastest product in `seconds`; what disturbs only makes others slower."""
    import torch

    matrix = torch.rand(side, side).to(getattr(torch, dtype))
    best, end = float("inf"), time.perf_counter() + seconds
    while best == float("inf") or time.perf_counter() < end:
        started = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best / 1e9


def _machine() -> str:
    """The processor's name, how many cores this process may use, and torch's version: what the speed depends on."""
    from importlib.metadata import version

    from medsft.hardware.specs import machine, processor_name

    return f"{processor_name()}, {machine('.').cpus} cores, torch {version('torch')}"
