"""TRL: which distribution a package is of, looked up for the packages that TRL asks for and not for all."""

import sys
from importlib import metadata


class OfPackages(dict[str, list[str]]):
    """The distributions of each package, as `importlib.metadata.packages_distributions` gives them, read when asked.

    The table of all takes 0.15 s of processor time; a distribution of the package's own name is found at once.
    """

    def __missing__(self, package: str) -> list[str]:
        try:
            metadata.distribution(package)
        except metadata.PackageNotFoundError:
            return self.setdefault(package, metadata.packages_distributions()[package])
        return self.setdefault(package, [package])


def import_trl() -> None:
    """Import TRL, which asks for the versions of transformers and peft as it is imported."""
    if "trl" in sys.modules:
        return
    table = metadata.packages_distributions
    metadata.packages_distributions = OfPackages
    try:
        import trl  # noqa: F401
    finally:
        metadata.packages_distributions = table
