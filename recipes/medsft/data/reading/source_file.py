"""A local file as a stream of bytes, unpacked on the fly where it is packed by gzip or zstd, or as text."""

import codecs
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyarrow import NativeFile

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
# UTF-32's mark begins with UTF-16's, so it is looked for first.
MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF16_LE: "utf-16"}
MARKS |= {codecs.BOM_UTF16_BE: "utf-16"}
PROBED = 512  # bytes in which UTF-16 without a byte order mark is looked for


@dataclass(frozen=True)
class SourceFile:
    """A file and its compression: 'gzip', 'zstd' or None."""

    path: Path
    packed: str | None

    def open(self) -> "NativeFile":
        """A binary stream of the unpacked content."""
        import pyarrow

        return pyarrow.input_stream(str(self.path), compression=self.packed)

    def encoding(self) -> str:
        """UTF-16 or UTF-32 where the first bytes show it, as in Excel's "Unicode text"; UTF-8 otherwise."""
        with self.open() as stream:
            first = bytes(stream.read(PROBED))
        for mark, name in MARKS.items():
            if first.startswith(mark):
                return name
        even, odd = first[0::2], first[1::2]  # Latin letters in UTF-16 have a zero in every second byte
        if len(odd) > 8 and max(even.count(0), odd.count(0)) > 0.4 * len(odd) and not (even.count(0) and odd.count(0)):
            return "utf-16-le" if odd.count(0) else "utf-16-be"
        return "utf-8-sig"

    def text(self, stream: "NativeFile", newline: str | None = None) -> io.TextIOWrapper:
        """An open stream as text. A byte that is not UTF-8 becomes a lone surrogate (PEP 383)."""
        encoding = self.encoding()
        errors = "surrogateescape" if encoding == "utf-8-sig" else "replace"
        return io.TextIOWrapper(stream, encoding=encoding, errors=errors, newline=newline)


def source_file(path: Path) -> SourceFile:
    """The file with its compression, detected by its first bytes."""
    with path.open("rb") as handle:
        magic = handle.read(4)
    return SourceFile(path, "gzip" if magic.startswith(GZIP) else "zstd" if magic == ZSTD else None)


def shortened(error: Exception) -> str:
    """An error of a library in one line of at most 120 characters."""
    return " ".join(str(error).split())[:120].rstrip(". ")
