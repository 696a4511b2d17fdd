"""A wrong name is answered with those that exist: studies, arms, folders of recipes, variables of make."""

from pathlib import Path

import pytest

from conftest import make, run_here
from medsft.errors import UserError
from medsft.files import write_json
from medsft.study import names


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for study in ("demo", "mine"):
        write_json(tmp_path / study / "data" / "data_report.json", {})
    write_json(tmp_path / "demo" / "lora" / "train.json", {})
    (tmp_path / "gpu_check").mkdir()  # a folder that is no study
    return tmp_path


def test_a_wrong_study_lists_the_studies(runs: Path) -> None:
    assert names.existing_study(runs / "demo") == runs / "demo"
    with pytest.raises(UserError, match=r"dmo: no such study; did you mean 'demo'\? .* has demo, mine; begin one with"):
        names.existing_study(runs / "dmo")
    with pytest.raises(UserError, match=r"nowhere/x: no such study; begin one"):
        names.existing_study(runs / "nowhere" / "x")


def test_a_wrong_arm_lists_the_arms(runs: Path) -> None:
    assert names.trained_arms(runs / "demo") == ["lora"]
    with pytest.raises(UserError, match=r"no arm 'lroa' here; did you mean 'lora'\? there are lora;"):
        names.existing_arm(runs / "demo", "lroa", names.trained_arms(runs / "demo"))


@pytest.mark.parametrize(
    "words",
    [("generate.py", "--study_dir"), ("score.py", "--study_dir"), ("report.py", "--study_dir")]
    + [("chat.py", "--study_dir"), ("export.py", "--study_dir"), ("review.py", "--study_dir")],
)
def test_every_stage_lists_the_studies(runs: Path, words: tuple[str, str]) -> None:
    done = run_here(*words, runs / "dmo")
    assert done.returncode == 2 and "did you mean 'demo'?" in done.stderr and done.stderr.count("\n") == 1


def test_compare_lists_the_studies(runs: Path) -> None:
    done = run_here("compare.py", "--studies", f"{runs}/mine {runs}/dmo")
    assert done.returncode == 2
    done = run_here("compare.py", "--studies", f"{runs}/dmo {runs}/mine")
    assert done.returncode == 2 and "did you mean 'demo'?" in done.stderr


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("recipes/configs/nope/lora.yaml", "the folders of recipes/configs are beyond, demo"),
        ("recipes/configs/mistral7b/lora.yaml", "did you mean 'mistral_7b'?"),
        ("recipes/configs/demo/lroa.yaml", "did you mean 'lora.yaml'? recipes/configs/demo has data.yaml"),
    ],
)
def test_a_wrong_recipe_lists_the_recipes(given: str, expected: str) -> None:
    done = run_here("score.py", "--config", given)
    assert done.returncode == 2 and expected in done.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("help", "STUDDY=x"), "STUDDY: no variable of this Makefile; did you mean STUDY?"),
        (("help", "data=my.jsonl"), "data: no variable of this Makefile; did you mean DATA?"),
        (("help", "QQQQ=1"), "QQQQ: no variable of this Makefile; its first lines list them"),
        (("help", "CONFIG=nope"), "CONFIG=nope: no folder of recipes/configs; there are beyond demo"),
    ],
)
def test_a_variable_that_make_does_not_know_ends_with_one_line(words: tuple[str, ...], expected: str) -> None:
    done = make(*words)
    assert done.returncode == 2 and expected in done.stderr
    assert done.stderr.count("\n") == 1 and done.stdout == ""


@pytest.mark.parametrize(
    ("words", "environment"),
    [
        (("help", "STUDY=x", "DATA=a.jsonl"), {"STUDDY": "x", "data": "y"}),
        (("help", "-j2", "SHELL=/bin/sh"), {"CONFIG": "of_another_program"}),
        (("-e", "help", "OPERATORS=", "PYTHON=python3", "TORCH_INDEX="), {}),
        (("help", "CONFIG=demo", "VENV=.venv", "CURDIR=."), {}),
        (("help", "SHORT=1", "EXTERNAL=axolotl=python"), {}),
    ],
)
def test_no_false_alarm(words: tuple[str, ...], environment: dict[str, str]) -> None:
    done = make(*words, **environment)
    assert "no variable" not in done.stderr and "no folder" not in done.stderr
