"""Command line: instant help, unknown keys with the nearest known one, one line and exit status 2 for mistakes."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import RECIPES, run_script
from medsft.arguments import DataArguments
from medsft.cli import run
from medsft.config import command_line, is_on, parse, read_config, settings
from medsft.errors import UserError

SCRIPTS = sorted(path.name for path in RECIPES.glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_names_a_command_and_every_option_and_is_instant(script: str) -> None:
    """Importing torch or transformers takes seconds, so that none of the slow packages may be imported for it."""
    done = run_script(script, "--help", launcher=(sys.executable, "-X", "importtime"))
    assert done.returncode == 0
    assert f"recipes/{script}" in done.stdout
    assert {"compare.py": "--studies", "check_safety.py": "--messages"}.get(script, "--study_dir") in done.stdout
    assert "--config" in done.stdout
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "medsft.cli" in imported
    slow = {"torch", "transformers", "trl", "datasets", "pyarrow", "nltk", "pandas", "numpy", "scipy"}
    assert not imported & slow


def test_help_into_a_reader_that_stops_reading_is_no_error() -> None:
    with subprocess.Popen(
        [sys.executable, str(RECIPES / "sft_lora.py"), "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_flags_override_the_yaml(tmp_path: Path) -> None:
    config = tmp_path / "data.yaml"
    config.write_text("seed: 7\nmax_length: 128\n")
    (args,) = parse([DataArguments], argv=["--config", str(config), "--max_length", "64"])
    assert (args.seed, args.max_length, args.dev_fraction) == (7, 64, 0.1)


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--ignore_data_skip"],
        ["--ignore_data_skip", "--seed", "3"],
        ["--seed", "3", "--ignore-data-skip"],
        ["--ignore_data_skip=Yes"],
        ["--ignore_data_skip", "1"],
        ["--ignore_data_skip", "false"],
        ["--ignore_data_skip", "true", "--ignore_data_skip", "no"],
        ["--no_remove_unused_columns"],
        ["--remove-unused-columns", "f"],
    ],
    ids=" ".join,
)
def test_guards_before_torch_read_options_as_the_parser_does(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trl import SFTConfig

    config = tmp_path / "train.yaml"
    config.write_text("use_cpu: true\nbf16: false\nremove_unused_columns: true\n")
    monkeypatch.setattr(sys, "argv", ["sft_lora.py", "--output_dir", str(tmp_path), *flags])
    argv = command_line(config)
    parsed = parse([SFTConfig], argv)
    assert is_on("ignore_data_skip", argv) == parsed[0].ignore_data_skip
    assert is_on("remove_unused_columns", argv) == parsed[0].remove_unused_columns
    chosen = {"ignore_data_skip": False, **settings(parsed, argv)}
    assert chosen["ignore_data_skip"] == parsed[0].ignore_data_skip
    assert chosen["remove_unused_columns"] == parsed[0].remove_unused_columns


def test_config_may_be_given_with_an_equals_sign(tmp_path: Path) -> None:
    config = tmp_path / "data.yaml"
    config.write_text("seed: 7\n")
    (args,) = parse([DataArguments], argv=[f"--config={config}"])
    assert args.seed == 7


@pytest.mark.parametrize(
    ("text", "flags", "expected"),
    [
        ("sed: 1\n", [], "did you mean 'seed'"),
        ("seed: 1\n", ["--max_lenght", "5"], "did you mean 'max_length'"),
        ("seed: [1\n", [], "not valid YAML"),
        ("- a\n- b\n", [], "expected 'key: value' lines"),
        ("seed: 1\n", ["--seed", "many"], "invalid int value"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, flags: list[str], expected: str) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(text)
    with pytest.raises(UserError, match=expected) as raised:
        parse([DataArguments], argv=["--config", str(config), *flags])
    assert "\n" not in str(raised.value)


def test_missing_config_is_named_with_those_that_exist() -> None:
    with pytest.raises(
        UserError, match=r"nowhere\.yaml: no such .*; the folders of recipes/configs are beyond, demo, "
    ):
        read_config(["--config", "nowhere.yaml"])
    with pytest.raises(UserError, match="needs a YAML file after it"):
        read_config(["--config"])


def test_a_misspelt_training_option_names_the_right_one() -> None:
    done = run_script("sft_lora.py", "--config", RECIPES / "configs/demo/lora.yaml", "--learning_rte", "1")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "error: unknown option 'learning_rte' on the command line: did you mean 'learning_rate'?"
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("number", "file", "status", "line"),
    [
        (errno.ENOSPC, None, 3, "does not fit: no space left on the disk; free some, and the same command goes on"),
        (errno.EROFS, "runs/x", 2, "error: runs/x: read-only file system; give a folder that can be written"),
        (errno.EACCES, "runs/x", 2, "error: runs/x: permission denied; give a folder that can be written"),
    ],
)
def test_a_folder_that_takes_no_files_is_one_line(
    number: int, file: str | None, status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        raise OSError(number, os.strerror(number), file)

    with pytest.raises(SystemExit) as ended:
        run(main, "")
    assert ended.value.code == status
    assert capsys.readouterr().err.startswith(line)


def test_other_errors_of_the_system_are_bugs_and_keep_their_traceback() -> None:
    def main() -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(OSError, match="Input/output error"):
        run(main, "")


@pytest.mark.parametrize("value", ["[true]", "{a: 1}", "[1, 2]"])
def test_a_value_of_another_kind_is_refused_by_name(tmp_path, value):
    (tmp_path / "odd.yaml").write_text(f"max_rows: {value}\n")
    with pytest.raises(UserError, match="max_rows"):
        parse([DataArguments], argv=["--config", str(tmp_path / "odd.yaml")])
