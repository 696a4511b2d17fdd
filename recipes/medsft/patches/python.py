"""Python itself: ending a process without tearing down the interpreter."""

import atexit
import os
import sys


def exit_without_teardown() -> None:
    """Run the exit handlers, flush, and end the process with status 0; the interpreter is not finalized.

    During finalization one of gloo's threads that still holds a tensor of the last collective asks for the
    interpreter's lock and aborts the process (pytorch issue 190489; 5 of 8 runs of four processes on two cores).
    Destroying the process group does not help where DeepSpeed keeps a reference to it.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
