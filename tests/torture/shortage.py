"""A full disk, a read-only folder, too little memory: a one-line message, and nothing lost."""

import contextlib
import os
import resource
import shutil
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

from kills import RESULTS, difference, keep, outcome
from stage import commands, run

MIB = 2**20


def full_disk(study: Path, tiny: Path, rounds: int) -> list[dict[str, Any]]:
    """A file system that is full at a different byte each time; then it grows, and the stage must finish."""
    disk, rows = study.with_name("disk"), []
    if os.geteuid() != 0:
        return [outcome("full disk", "all", 0, [], "not run: mounting a small disk needs root")]
    disk.mkdir(exist_ok=True)
    for name, words in commands(disk / "study", tiny).items():
        before = study.with_name("before_" + name)
        if name not in RESULTS or not before.exists():
            continue
        _mount(disk, 2048 * MIB)
        keep(before, disk / "study")
        start = _used(disk)
        if (whole := run(words)).status:
            rows.append(outcome("full disk", name, 0, [f"undisturbed: {whole.fault or whole.last}"]))
            _unmount(disk)
            continue
        wanted, need = RESULTS[name](disk / "study"), max(_used(disk) - start, 64 * 1024)
        faults = []
        for number in range(rounds):
            _unmount(disk)
            _mount(disk, start + MIB + need)
            keep(before, disk / "study")
            _fill(disk, int(need * number / rounds))
            done = run(words)
            if done.fault:
                faults.append(f"{need * number // rounds} bytes free: {done.fault}")
            (disk / "filler").unlink(missing_ok=True)
            subprocess.run(["mount", "-o", "remount,size=2g", str(disk)], check=True)
            again = run(words)
            if again.fault or again.status:
                faults.append(f"{need * number // rounds} bytes, then free again: {again.fault or again.last}")
            elif (found := RESULTS[name](disk / "study")) != wanted:
                faults.append(f"{need * number // rounds} bytes, then free again: {difference(wanted, found)}")
        _unmount(disk)
        rows.append(outcome("full disk", name, rounds, faults))
    return rows


def read_only(study: Path, tiny: Path) -> list[dict[str, Any]]:
    """Every stage on a read-only file system."""
    disk, faults = study.with_name("disk"), []
    if os.geteuid() != 0:
        return [outcome("read-only folder", "all", 0, [], "not run: mounting needs root")]
    disk.mkdir(exist_ok=True)
    names = [name for name in commands(disk, tiny) if study.with_name("before_" + name).exists()]
    for name in names:
        _mount(disk, 2048 * MIB)
        keep(study.with_name("before_" + name), disk / "study")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        done = run(commands(disk / "study", tiny)[name])
        if done.fault or not done.status:
            faults.append(f"{name}: {done.fault or 'ended with status 0'}")
        _unmount(disk)
    return [outcome("read-only folder", "all", len(names), faults)]


def little_memory(study: Path, tiny: Path) -> list[dict[str, Any]]:
    """Training in a control group with less memory than planned, and with a small address space (RLIMIT_AS)."""
    words = [*commands(study, tiny)["train"], "--arm", "starved"]
    words[words.index("--host_reserve_gb") + 1] = "0.5"
    words[words.index("--model_name_or_path") + 1] = "embedded/SmolLM2-135M-Instruct"
    rows, group = [], _memory_group()
    if group is None:
        rows.append(
            outcome("memory limit (control group)", "train", 0, [], "not run: no control group can be made here")
        )
    else:
        faults = []
        for limit in (300, 600, 1000):
            (group / "memory.limit_in_bytes").write_text(str(limit * MIB))
            done = run(words, before=lambda: (group / "cgroup.procs").write_text(str(os.getpid())))
            if done.status != 3:
                faults.append(f"{limit} MiB: {done.fault or done.last}")
        _remove(group)
        rows.append(outcome("memory limit (control group)", "train", 3, faults))
    faults = []
    for extra in (64, 256, 512):
        limit = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE") + extra * MIB
        done = run(words, before=partial(resource.setrlimit, resource.RLIMIT_AS, (limit, limit)))
        if done.status == 0 or done.fault:
            faults.append(f"{extra} MiB left: {done.fault or done.last}")
    shutil.rmtree(study / "starved", ignore_errors=True)
    return [*rows, outcome("small address space", "train", 3, faults)]


def _memory_group() -> Path | None:
    """A new control group (version 1) inside this process's own; None where none can be made."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = next((line.split(":", 2)[2] for line in lines if line.split(":")[1] == "memory"), None)
    if own is None:
        return None
    folder = Path("/sys/fs/cgroup/memory") / own.lstrip("/") / f"torture_{os.getpid()}"
    try:
        folder.mkdir()
    except OSError:
        return None
    return folder


def _remove(group: Path) -> None:
    """The kernel releases a group a moment after its last process ends; up to a minute on a busy machine."""
    for _ in range(600):
        with contextlib.suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.1)


def _mount(disk: Path, size: int) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], check=True)


def _unmount(disk: Path) -> None:
    subprocess.run(["umount", str(disk)], check=False, stderr=subprocess.DEVNULL)


def _used(disk: Path) -> int:
    return shutil.disk_usage(disk).used


def _fill(disk: Path, leave: int) -> None:
    """Write a file that leaves this many bytes free."""
    free = shutil.disk_usage(disk).free - leave
    with (disk / "filler").open("wb") as handle:
        os.posix_fallocate(handle.fileno(), 0, max(free, 1))
