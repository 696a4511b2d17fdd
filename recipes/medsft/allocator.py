"""Keep freed memory in the process on CPU runs: a step frees and asks again for gigabytes of activations.

glibc hands large blocks back to the kernel at once and gets them back page by page. With that switched off, six LoRA
steps of the embedded model took 26 s instead of 92 s on two virtual cores, though the 92 s may have been shared with
other work: the gain is real, its size was not measured side by side. The price is a higher resident memory.
"""

import ctypes
import platform

# Parameters of mallopt(3), from glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Switch it on for this process; False where the C library is not glibc."""
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    wanted = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 256 * 2**20}
    return all(libc.mallopt(parameter, value) == 1 for parameter, value in wanted.items())
