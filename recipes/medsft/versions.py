"""Versions of what decides a result, for every record."""

import platform
from importlib.metadata import PackageNotFoundError, version

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
