"""What a script does to start sooner does not affect what it runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import RECIPES
from medsft import startup

SCRIPT = """
import gc, sys
from medsft.arguments import DataArguments
from medsft.cli import run
from medsft.config import parse

def main():
    sys.argv = sys.argv[:1]
    parse([DataArguments])
    import bitsandbytes
    print(gc.isenabled(), "torch._inductor.compile_fx" in sys.modules)

run(main, "")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "environment", "expected"),
    [
        ((), {}, "True False"),
        (("--torch_compile", "true"), {"TORCHDYNAMO_DISABLE": "1"}, "True True"),
        ((), {"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"}, "True True"),
    ],
    ids=["without", "by option", "by launcher"],
)
def test_the_compiler_is_imported_where_it_is_asked_for(
    words: tuple[str, ...], environment: dict[str, str], expected: str
) -> None:
    without_gpu = {"PATH": str(Path(sys.executable).parent), "PYTHONPATH": str(RECIPES)}
    command = [sys.executable, "-c", SCRIPT, *words]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **without_gpu, **environment})
    assert done.stdout.strip() == expected, done.stderr[-2000:]


def test_the_environments_own_ninja_is_found_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    startup.find_own_tools()
    assert os.environ["PATH"].split(os.pathsep) == [f"{sys.prefix}/bin", "/nowhere"]
