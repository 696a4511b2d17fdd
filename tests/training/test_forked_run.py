"""A script in a fork of a process that has imported its libraries: its status, what it says, and what it finds."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import RECIPES
from medsft.training.tuning import forked_run

SCRIPT = """
import sys
from pathlib import Path

found = "trl.trainer.sft_trainer" in sys.modules
Path(sys.argv[1]).write_text(f"{__name__} {found}")
print("x" * 10_000, file=sys.stderr)
print("error: no such row", file=sys.stderr)
sys.exit(int(sys.argv[2]))
"""


@pytest.mark.slow
def test_status_and_last_words_of_scripts_that_find_their_libraries_imported(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    for status in (0, 3):
        output = tmp_path / str(status)
        code, last = forked_run.run(script, [str(output), str(status)])
        assert code == status
        assert last.endswith("xx\nerror: no such row\n")
        assert len(last) == forked_run.LAST
        assert output.read_text() == "__main__ True"
        assert capfd.readouterr().err == "x" * 10_000 + "\nerror: no such row\n"  # and no warning of what was imported


@pytest.mark.slow
def test_the_terminal_may_be_a_file(tmp_path: Path) -> None:
    """`make demo > log 2>&1`: in the script stderr is a pipe, which Python had opened as a file to seek in."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom medsft import terminal\n"
        "print('before', file=sys.stderr)\nterminal.print_any_text()\nprint('after', file=sys.stderr)\n"
    )
    code = (
        "from pathlib import Path\nfrom medsft.training.tuning import forked_run\n"
        f"if __name__ == '__main__':\n    status, last = forked_run.run(Path({str(script)!r}), [])\n"
        "    assert (status, last) == (0, 'before\\nafter\\n'), last\n"
    )
    (tmp_path / "outer.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(RECIPES)}
    with (tmp_path / "log").open("w") as log:
        log.write("a line before\n")
        log.flush()
        command = [sys.executable, str(tmp_path / "outer.py")]
        done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    assert done.returncode == 0, (tmp_path / "log").read_text()


@pytest.mark.slow
def test_a_script_that_fails_of_itself_says_why(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("raise RuntimeError('no memory left')")
    code, last = forked_run.run(script, [])
    assert code == 1
    assert "RuntimeError: no memory left" in last


@pytest.mark.slow
def test_what_the_training_scripts_import_is_there_before_they_are_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSFT_VERBOSE", "1")  # else this process's warnings would be silenced
    from medsft.training.tuning import preloaded

    assert preloaded.__name__ == forked_run.PRELOADED
    for script in ("sft_lora.py", "sft_full.py"):
        nodes = ast.walk(ast.parse((RECIPES / script).read_text(encoding="utf-8")))
        imported = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
        assert imported <= {*sys.modules}, script
