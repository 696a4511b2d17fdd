"""What a person sees in the terminal: no line of a library that is not for them, and our own error as the last one."""

import logging
import os
import subprocess
import sys
import warnings

# They say which kernel or accelerator was not found, and what a later version will rename. A filter holds for a logger
# of this very name, not for those below it.
NOISY = (
    "DeepSpeed",
    "accelerate",
    "bitsandbytes",
    "bitsandbytes.backends.cpu.ops",
    "torch.distributed",
    "torchao",
    "torch.utils._pytree",
    "transformers.integrations.bitsandbytes",
)
SAY_LAST = """
import os, sys, time
launcher, line = int(sys.argv[1]), sys.argv[2]
end = time.monotonic() + 30
while time.monotonic() < end:
    try:
        os.kill(launcher, 0)
    except OSError:
        break
    time.sleep(0.02)
print(line, file=sys.stderr, flush=True)
"""


def quiet_libraries() -> None:
    """Leave out warnings of libraries and progress bars of less than two seconds; MEDSFT_VERBOSE=1 shows all of them.

    What they say is for developers of this project, who see it in the tests. Errors are never left out.
    """
    if os.environ.get("MEDSFT_VERBOSE", "") not in ("", "0"):
        return
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        os.environ.setdefault("PYTHONWARNINGS", "ignore")  # processes that this one starts
    # torchao's own kernels are of no use to its optimizers, and their libraries need not load everywhere
    os.environ.setdefault("TORCHAO_FORCE_SKIP_LOADING_SO_FILES", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # else eighty lines at each start
    for name in NOISY:  # a filter stays where a library sets the level of its logger as it is imported
        logging.getLogger(name).addFilter(_is_error)
    os.environ.setdefault("TQDM_DELAY", "2")  # seconds; read once, as tqdm is imported


def print_any_text() -> None:
    """Print '?' for a character that the terminal's encoding lacks, such as Chinese on a Windows code page."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


def say_last(line: str) -> bool:
    """Print an error when `accelerate launch`, which started this process, has printed its own traceback and ended.

    False where this process was not started by it: then nothing is printed.
    """
    if "ACCELERATE_MIXED_PRECISION" not in os.environ or os.environ.get("RANK", "0") != "0":
        return False
    command = [sys.executable, "-S", "-c", SAY_LAST, str(os.getppid()), line]
    subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    return True
