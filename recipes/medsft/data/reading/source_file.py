"""A local file as a stream of bytes, unpacked on the fly where it is packed by gzip or zstd."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyarrow import NativeFile

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True)
class SourceFile:
    """A file and its compression: 'gzip', 'zstd' or None."""

    path: Path
    packed: str | None

    def open(self) -> "NativeFile":
        """A binary stream of the unpacked content."""
        import pyarrow

        return pyarrow.input_stream(str(self.path), compression=self.packed)


def source_file(path: Path) -> SourceFile:
    """The file with its compression, detected by its first bytes."""
    with path.open("rb") as handle:
        magic = handle.read(4)
    return SourceFile(path, "gzip" if magic.startswith(GZIP) else "zstd" if magic == ZSTD else None)


def shortened(error: Exception) -> str:
    """An error of a library in one line of at most 120 characters."""
    return " ".join(str(error).split())[:120].rstrip(". ")
