"""Memory and processors that the control groups of this process allow (cgroup versions 1 and 2)."""

import re
from pathlib import Path

import psutil


def host_memory() -> tuple[int, int]:
    """(total, available) bytes of host memory: the machine's or the container's, whichever is smaller."""
    memory = psutil.virtual_memory()
    limit, available = cgroup_memory()
    return min(memory.total, limit), min(memory.available, available)


def disk_traffic(own: Path = Path("/proc/self/io")) -> tuple[int, int]:
    """Bytes that this process has caused to be read from and written to disks so far (proc(5)); zeros if not known."""
    counts = dict(line.split(": ") for line in read(own).splitlines())
    return int(counts.get("read_bytes", 0)), int(counts.get("write_bytes", 0))


def cgroup_memory(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> tuple[int, int]:
    """(limit, available) bytes of the control groups this process is in, the tightest of each; 2**63 without a limit.

    The inactive page cache counts as available: the kernel gives it back before it kills (as in `docker stats`).
    """
    limits, available = [2**63], [2**63]
    for folder, limit_file, used_file, cache in _cgroup_folders(root, own):
        limit = read(folder / limit_file).strip()
        if not limit.isdigit():  # absent, or 'max'
            continue
        reclaimable = re.search(rf"^{cache} (\d+)$", read(folder / "memory.stat"), re.MULTILINE)
        used = int(read(folder / used_file) or 0) - (int(reclaimable[1]) if reclaimable else 0)
        limits.append(int(limit))
        available.append(int(limit) - max(0, used))
    return min(limits), max(0, min(available))


def cgroup_cpus(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Processors that the control group's quota amounts to, rounded up (`docker run --cpus`); 2**15 without one."""
    quota, period = (*read(root / "cpu.max").split(), "", "")[:2]
    if not quota:  # version 1, where -1 means none
        quota, period = (read(root / "cpu" / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    return max(1, -(-int(quota) // int(period))) if quota.isdigit() and period.isdigit() else 2**15


def read(path: Path) -> str:
    """The text of a file; '' where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def _cgroup_folders(root: Path, own: Path) -> list[tuple[Path, str, str, str]]:
    """This process's control groups and their parents, each with its file names (version 1 or 2) for memory."""
    found = []
    for line in read(own).splitlines():
        _, controllers, group = line.split(":", 2)
        if "memory" in controllers.split(","):
            base, files = root / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        elif controllers == "":
            base, files = root, ("memory.max", "memory.current", "inactive_file")
        else:
            continue
        inside = base / group.lstrip("/")
        found += [(folder, *files) for folder in [inside, *inside.parents] if folder.is_relative_to(base)]
    return found
