"""A training script in a process that finds its libraries imported: a fork of one that imported them once.

A sweep trains a dozen times for some seconds each, and importing what one training needs takes five or six.
"""

import multiprocessing
import os
import runpy
import sys
from multiprocessing.connection import Connection
from pathlib import Path

PRELOADED = "medsft.training.tuning.preloaded"
LAST = 8192  # bytes of stderr that are kept: more than a traceback's end


def run(script: Path, flags: list[str]) -> tuple[int, str]:
    """Run a training script on this processor. Return its exit status and the end of its stderr, which is shown too.

    The process that is forked from imports only: it has started no threads that a fork would lose.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOADED])
    errors, into = context.Pipe(duplex=False)
    process = context.Process(target=_script, args=(str(script), flags, into))
    process.start()
    into.close()
    last = show(errors.fileno())
    process.join()
    return process.exitcode or 0, last


def show(errors: int) -> str:
    """Copy what comes from the file descriptor to stderr until its end, and return the last of it."""
    last = b""
    while chunk := os.read(errors, 4096):
        sys.stderr.write(chunk.decode(errors="replace"))
        sys.stderr.flush()
        last = (last + chunk)[-LAST:]
    return last.decode(errors="replace")


def _script(script: str, flags: list[str], errors: Connection) -> None:
    os.dup2(errors.fileno(), 2)
    errors.close()
    # the old one still takes its descriptor for the file that it may have been, in which one can seek
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.argv = [script, *flags]
    runpy.run_path(script, run_name="__main__")
