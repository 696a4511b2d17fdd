"""How fast a disk is for large blocks past the page cache, as DeepSpeed's NVMe offload uses it."""

import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

BLOCK = 16 * 2**20  # bytes; a multiple of every disk's own block
DIRECT = getattr(os, "O_DIRECT", 0)


class Speed(NamedTuple):
    """Bytes per second."""

    write: float
    read: float


def measure(folder: Path, most: int = 2**33, seconds: float = 10.0) -> Speed:
    """Write a file of random bytes in `folder` and read it again, `most` bytes or `seconds` in all, whichever comes
    first; it is deleted. Where the file system refuses O_DIRECT, the page cache makes the numbers too good.
    """
    path = folder / ".speed"
    blocks = max(1, min(most, 2**33) // BLOCK)
    with mmap.mmap(-1, BLOCK) as buffer:  # page-aligned, as O_DIRECT wants it
        buffer.write(os.urandom(BLOCK))
        try:
            written, took = _timed(path, os.O_WRONLY | os.O_CREAT, lambda file: os.write(file, buffer), blocks, seconds)
            read, again = _timed(path, os.O_RDONLY, lambda file: os.readv(file, [buffer]), written, seconds)
        finally:
            path.unlink(missing_ok=True)
    return Speed(written * BLOCK / took, read * BLOCK / again)


def _timed(path: Path, flags: int, move: Callable[[int], int], blocks: int, seconds: float) -> tuple[int, float]:
    """(blocks moved, seconds it took) within half of `seconds`, at least one block."""
    file = _open(path, flags)
    try:
        started, done = time.monotonic(), 0
        while done < blocks and (done == 0 or time.monotonic() - started < seconds / 2):
            move(file)
            done += 1
        os.fsync(file)
        return done, max(time.monotonic() - started, 1e-6)
    finally:
        os.close(file)


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags | DIRECT, 0o600)
    except OSError:
        return os.open(path, flags, 0o600)  # tmpfs and some network file systems have no O_DIRECT
