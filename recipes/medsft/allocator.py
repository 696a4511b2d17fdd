"""Keep freed memory in the process on CPU runs: a step frees and asks again for gigabytes of activations.

glibc hands blocks over 32 MB back to the kernel at once and gets them back page by page. With that switched off, a
LoRA step of the embedded model took less than half the time on two virtual cores (`make bench` will say it for yours).
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
