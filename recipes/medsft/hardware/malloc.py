"""Whether freed memory stays in the process or goes back to the system at once.

On CPU runs it stays: a step frees and asks again for gigabytes of activations. glibc hands large blocks back to the
kernel at once and gets them back page by page. With that switched off, six LoRA steps of the embedded model took 26 s
instead of 92 s on two virtual cores, though the 92 s may have been shared with other work: the gain is real, its size
was not measured side by side. The price is a higher resident memory.
"""

import ctypes
import platform

# Parameters of mallopt(3), from glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -2, -3, -4


def keep_freed_memory() -> bool:
    """For speed; False where the C library is not glibc."""
    return _set({M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 256 * 2**20})


def return_freed_memory() -> bool:
    """For memory: ZeRO's offload copies all weights into one buffer and frees what they were in, 2 bytes a parameter
    that would stay resident. False where the C library is not glibc."""
    return _set({M_MMAP_THRESHOLD: 2**20, M_TRIM_THRESHOLD: 2**26})


def _set(values: dict[int, int]) -> bool:
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return all(libc.mallopt(parameter, value) == 1 for parameter, value in values.items())
