"""The README's commands exist and do what they say; those that need neither minutes nor a GPU are run."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from conftest import ROOT, run_script

BLOCKS = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.S)
LINES = [line.split(" #")[0].strip() for block in BLOCKS for line in block.replace("\\\n", " ").splitlines()]
COMMANDS = [line for line in LINES if line and not line.startswith("#")]


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make ")])
def test_make_command_exists(command: str) -> None:
    done = subprocess.run([*shlex.split(command), "--dry-run"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [c for c in COMMANDS if "recipes/" in c])
def test_files_that_a_command_names_exist(command: str) -> None:
    for word in shlex.split(command):
        if word.startswith(("recipes/", "accelerate_configs/")):
            assert (ROOT / word).exists(), word


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if re.match(r"python recipes/(plan_memory|prepare_data)\.py", c)]
)
def test_quick_command_runs(command: str, tmp_path: Path) -> None:
    script, *arguments = shlex.split(command)[1:]
    done = run_script(script.removeprefix("recipes/"), *arguments, "--study_dir", tmp_path / "study")
    assert done.returncode == 0, done.stderr


def test_the_two_first_commands_are_demo_and_test() -> None:
    assert [c for c in COMMANDS if c.startswith("make ")][:2] == ["make demo", "make test"]


def test_make_help_lists_every_documented_target() -> None:
    text = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), flags=re.M):
        assert f"  {target} " in text
