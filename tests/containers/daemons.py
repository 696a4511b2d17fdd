"""Daemons that the tests start and end themselves, by the id of the process, whatever happens in between."""

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


def wait_until(ready: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"{what}: not there after {seconds:.0f} s"
        time.sleep(0.1)
