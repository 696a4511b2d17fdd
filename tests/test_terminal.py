"""What of a library's words reaches the terminal, and that our own error is the last line there."""

import logging
import subprocess
import sys

import pytest

from conftest import RECIPES, ROOT, run_script
from medsft import terminal

NOISE = """
import logging, sys, warnings
sys.path.insert(0, {recipes!r})
from medsft import terminal
terminal.quiet_libraries()
logging.basicConfig(format="%(message)s")
warnings.warn("renamed in version 6", FutureWarning)
logging.getLogger("DeepSpeed").warning("no accelerator found")
logging.getLogger("DeepSpeed").error("broken")
from tqdm.auto import tqdm
for _ in tqdm(range(3)): pass
"""


@pytest.mark.parametrize(("verbose", "seen"), [("", ["broken"]), ("1", ["renamed", "no accelerator", "broken", "3/3"])])
def test_warnings_and_short_bars_of_libraries_are_for_who_asks(verbose: str, seen: list[str]) -> None:
    code = NOISE.format(recipes=str(RECIPES))
    done = subprocess.run([sys.executable, "-c", code], env={"MEDSFT_VERBOSE": verbose}, capture_output=True, text=True)
    assert done.returncode == 0
    words = ("renamed", "no accelerator", "broken", "3/3")
    assert [word for word in words if word in done.stderr] == seen


def test_a_filter_stays_where_deepspeed_sets_the_level() -> None:
    terminal.quiet_libraries()
    logger = logging.getLogger("DeepSpeed")
    logger.setLevel(logging.INFO)  # as deepspeed.utils.logging does when it is imported
    assert not logger.filter(logging.LogRecord("DeepSpeed", logging.WARNING, "", 0, "x", None, None))
    assert logger.filter(logging.LogRecord("DeepSpeed", logging.ERROR, "", 0, "x", None, None))


@pytest.mark.slow
def test_importing_bitsandbytes_says_nothing() -> None:
    code = f"import sys; sys.path.insert(0, {str(RECIPES)!r}); from medsft import terminal; terminal.quiet_libraries()"
    done = subprocess.run([sys.executable, "-c", f"{code}; import bitsandbytes"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_what_does_not_fit_ends_with_our_line_under_accelerate() -> None:
    launcher = (sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", "--cpu")
    config = ROOT / "recipes" / "configs" / "demo" / "lora.yaml"
    done = run_script("sft_lora.py", "--config", config, "--lerning_rate", "1", launcher=launcher)
    assert done.returncode != 0
    assert "CalledProcessError" in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last == "error: unknown option 'lerning_rate' on the command line: did you mean 'learning_rate'?"
