"""One command of the check: its own process group, log and time limit, and its memory, watched from outside."""

import os
import re
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil


class Finished(NamedTuple):
    """`status` is None where the limit ended it. `host` and `device`: peaks in bytes, of its processes together and in
    use on the GPU by whomever. `last`: its error, or its last line.
    """

    status: int | None
    seconds: float
    host: int
    device: int
    last: str

    def failure(self) -> str:
        """Why it did not end well; '' where it did."""
        if self.status is None:
            return f"did not end within {self.seconds:.0f} s"
        return "" if self.status == 0 else f"exit status {self.status}: {self.last}"


def run(words: list[str], log: Path, limit: float, env: dict[str, str], stop_at: Path | None = None) -> Finished:
    """Run a command to its end, or for `limit` seconds. Once `stop_at` exists it is sent SIGTERM."""
    log.parent.mkdir(parents=True, exist_ok=True)
    started, host, device, told = time.monotonic(), 0, 0, False
    with log.open("ab") as output:
        process = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT, env=env, start_new_session=True)
        try:
            while process.poll() is None and time.monotonic() - started < limit:
                host, device = max(host, resident(process.pid)), max(device, device_in_use())
                if stop_at is not None and stop_at.exists() and not told:
                    told = True
                    process.send_signal(signal.SIGTERM)
                time.sleep(0.25 if stop_at is None else 0.02)
        finally:
            status = process.poll()
            end_all(process.pid)
            process.wait()
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    said = [line for line in lines if re.match(r"error:|does not fit:|stopped:|[\w.]*(Error|Exception): ", line)]
    return Finished(status, time.monotonic() - started, host, device, (said or lines or [""])[-1].strip()[:300])


def end_all(pid: int) -> None:
    """Kill a process, what it started (ninja gives each compiler a group of its own), and what is in its group."""
    with suppress(psutil.Error):
        for process in [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)]:
            with suppress(psutil.Error):
                process.kill()
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def resident(pid: int) -> int:
    """Resident bytes of a process and its children now."""
    total = 0
    with suppress(psutil.Error):
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            with suppress(psutil.Error):
                total += process.memory_info().rss
    return total


def device_in_use() -> int:
    """Bytes in use now on the GPU that the check runs on; 0 without one, or without NVIDIA's management library."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if not visible:
        return 0
    try:
        import pynvml

        pynvml.nvmlInit()
        by_number, by_uuid = pynvml.nvmlDeviceGetHandleByIndex, pynvml.nvmlDeviceGetHandleByUUID
        handle = by_number(int(visible)) if visible.isdigit() else by_uuid(visible)
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)
    except Exception:  # no library, no driver, or a slice that reports nothing
        return 0
