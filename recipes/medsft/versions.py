"""Versions of what decides a result, for every record."""

import os
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from medsft.files import fingerprint, sha256_file

PACKAGES = ["torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate", "datasets", "deepspeed"]


def versions() -> dict[str, str]:
    """Installed versions of Python and of the packages a result depends on; an absent package is left out."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@cache
def code_fingerprint(*places: str) -> str:
    """A fingerprint of every file of these rooms or modules, such as 'tokenization' or 'data/pipeline.py'.

    A stage names the rooms it depends on; what it made before is stale when any file of them has changed.
    """
    library = Path(__file__).parent
    files = [
        f for place in places for f in ([library / place] if place.endswith(".py") else (library / place).rglob("*"))
    ]
    kept = sorted(f for f in files if f.is_file() and f.suffix != ".pyc")
    return fingerprint({os.path.relpath(f, library): sha256_file(f) for f in kept})
