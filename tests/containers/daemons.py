"""Daemons that the tests start, and end by process id even when a test fails."""

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def daemon(command: Sequence[str], folder: Path, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """`command` running in the background, output in `folder`; ended by SIGTERM, or SIGKILL if that is not enough."""
    with (folder / f"{Path(command[0]).name}.{time.monotonic_ns()}.out").open("wb") as output:
        process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(ready: Callable[[], bool], what: str, seconds: float = 300) -> None:
    """Poll `ready` ten times a second; an AssertionError after `seconds` names `what`."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"{what}: not ready after {seconds:.0f} s"
        time.sleep(0.1)
