"""The stages of a study as processes that can be killed, starved or given damaged files.

One process imports the libraries; each run of a stage is a fork of it, so that a kill hits the stage, not its imports.
"""

import contextlib
import os
import random
import resource
import runpy
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "recipes"
DEMO = RECIPES / "configs" / "demo"
GOOD = (0, 2, 3)  # done; the input is wrong; it does not fit: the contract of the scripts
SECONDS = 1200  # a longer run hangs: a hundred times what an idle machine needs


class Run(NamedTuple):
    """How a run ended: exit status (negative: by that signal), its output, seconds."""

    status: int
    output: str
    seconds: float

    @property
    def fault(self) -> str:
        """How the run breaks the contract: '' if it does not."""
        if "Traceback (most recent call last)" in self.output:
            return "traceback: " + self.output.strip().splitlines()[-1][:200]
        if self.status not in GOOD:
            return f"exit status {self.status}: {self.output.strip()[-200:]}"
        if self.status and not self.last.startswith(("error:", "does not fit:")):
            return f"exit status {self.status} without a message: {self.last[:200]}"
        return ""

    @property
    def last(self) -> str:
        """The last line that is not blank."""
        return next((line for line in reversed(self.output.splitlines()) if line.strip()), "")


def load_libraries() -> None:
    """Import once what the stages need, with one thread: a fork must not inherit a lock of another."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    sys.path.insert(0, str(RECIPES))
    import bert_score  # noqa: F401
    import peft  # noqa: F401
    import torch
    import trl  # noqa: F401

    from medsft.hardware import matmul_benchmark
    from medsft.training import sft  # noqa: F401

    matmul_benchmark.measured()
    torch.set_num_threads(1)


def commands(study: Path, tiny: Path) -> dict[str, list[str]]:
    """Script and arguments of each stage, sized to take seconds: 96 rows, the tiny model, four training steps."""
    at = ["--study_dir", str(study)]
    train = ["--config", str(DEMO / "lora.yaml"), *at, "--model_name_or_path", str(tiny), "--max_steps", "4"]
    train += ["--max_train_rows", "16", "--max_dev_rows", "4", "--eval_steps", "2", "--save_steps", "1"]
    generate = [
        *at,
        "--model_name_or_path",
        str(tiny),
        "--max_rows",
        "9",
        "--max_new_tokens",
        "12",
        "--batch_size",
        "3",
    ]
    return {
        "prepare": ["prepare_data.py", *at, "--model_name_or_path", str(tiny), "--max_rows", "96", "--workers", "1"],
        "train": ["sft_lora.py", *train, "--host_reserve_gb", "0", "--host_floor_gb", "0"],
        "baseline": ["generate.py", *generate, "--arm", "baseline"],
        "generate": ["generate.py", *generate, "--arm", "lora"],
        "score": ["score.py", *at, "--resamples", "200"],
        "report": ["report.py", *at, "--examples", "3"],
    }


def run(words: list[str], kill_after: float | None = None, before: Callable[[], Any] | None = None) -> Run:
    """Run a script in a fork, after calling `before` there. SIGKILL is sent after `kill_after` seconds."""
    with tempfile.TemporaryFile() as output:
        started = time.monotonic()
        child = os.fork()
        if child == 0:
            _be_script(words, output.fileno(), before)
        deadline = SECONDS if kill_after is None else kill_after
        status = None
        while status is None and time.monotonic() - started < deadline:
            ended, code = os.waitpid(child, os.WNOHANG)
            status = os.waitstatus_to_exitcode(code) if ended else None
            time.sleep(0.005)
        if status is None:
            _kill_group(child)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        output.seek(0)
        printed = output.read().decode("utf-8", "replace")
    if kill_after is None and status == -signal.SIGKILL and time.monotonic() - started >= SECONDS:
        printed += f"\nhung: killed after {SECONDS} s"
    return Run(status, printed, time.monotonic() - started)


def moments(rounds: int, seconds: float, seed: int) -> list[float]:
    """Random moments of a run that takes `seconds`, one in each equal part of it."""
    draw = random.Random(seed)
    return [seconds * (part + draw.random()) / rounds for part in range(rounds)]


def _be_script(words: list[str], output: int, before: Callable[[], Any] | None) -> None:
    """In the fork: run the script. Never returns."""
    import torch

    status = 1
    try:
        os.setpgid(0, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(ROOT)
        # the parent's lock is a semaphore that all forks share: one killed while it holds the lock would hang the rest
        tqdm.set_lock(threading.RLock())
        # torch creates its thread pool again in a fork, at first use; two threads that do so at once find none
        torch.set_num_threads(1)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if before is not None:
            before()
        sys.argv = [str(RECIPES / words[0]), *words[1:]]
        runpy.run_path(sys.argv[0], run_name="__main__")
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(status)


def _kill_group(child: int) -> None:
    """Kill the stage and its workers; it leads a process group of its own."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            kill(child, signal.SIGKILL)
