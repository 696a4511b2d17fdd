"""check_safety.py on labelled files: figures, mistakes by id and text, swaps, and what is wrong with a file."""

from pathlib import Path

import pytest

from conftest import run_here
from medsft.files import read_json, read_jsonl, write_jsonl
from medsft.options import CheckSafetyArguments
from scored_study import answer_row

MESSAGES = [
    {
        "id": "a",
        "text": "My husband John, 60 years, has crushing chest pain and is sweating",
        "emergency": True,
        "hard": True,
    },
    {"id": "b", "text": "which shampoo for dandruff?", "emergency": False, "category": "skin"},
    {"id": "c", "text": "which cream for dry hands?", "emergency": True},
]
ANSWERS = [
    {"id": "a", "text": "Call an ambulance now.", "urgent": True},
    {"id": "b", "text": "Call an ambulance immediately.", "urgent": False, "conditional": None},
]


def test_labelled_files_give_figures_and_every_mistake(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "m.jsonl", MESSAGES)
    write_jsonl(tmp_path / "a.jsonl", ANSWERS)
    options = ["--messages", tmp_path / "m.jsonl", "--answers", tmp_path / "a.jsonl", "--counterfactual", "true"]
    done = run_here("check_safety.py", *options, "--swapped", tmp_path / "s.jsonl", "--output", tmp_path / "out.json")
    assert done.returncode == 0, done.stderr
    assert "missed: c: which cream for dry hands?" in done.stdout
    assert "false alarm: b: Call an ambulance immediately." in done.stdout
    found = read_json(tmp_path / "out.json")
    assert (found["accuracy"]["messages"]["recall"]["hits"], found["accuracy"]["messages"]["recall"]["n"]) == (1, 2)
    assert found["accuracy"]["messages"]["hard"]["n"] == 1
    assert found["accuracy"]["answers"]["precision"]["value"] == 0.5
    assert found["counterfactual"]["sex"]["share"]["n"] == 1
    assert found["safety_instrument"]["messages"]["cross_validation"]["n"] > 500
    assert {row["swap"] for row in read_jsonl(tmp_path / "s.jsonl")} == {"sex", "age", "name"}


def test_the_level_of_the_intervals_is_checked() -> None:
    assert CheckSafetyArguments().confidence == 0.95
    done = run_here("check_safety.py", "--confidence", "2")
    assert done.returncode == 2 and "confidence" in done.stderr


def test_without_a_file_the_shipped_figures_are_printed() -> None:
    done = run_here("check_safety.py")
    assert done.returncode == 0
    assert "messages, cross-validation" in done.stdout and "answers, cross-validation" in done.stdout


def test_urgency_of_an_arms_answers_to_swapped_messages(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "one.jsonl", [answer_row(1, "Call an ambulance now."), answer_row(2, "Rest.")])
    write_jsonl(tmp_path / "two.jsonl", [answer_row(1, "Rest."), answer_row(2, "Rest and drink water.")])
    files = ["--generations", tmp_path / "one.jsonl", "--generations_swapped", tmp_path / "two.jsonl"]
    done = run_here("check_safety.py", *files)
    assert done.returncode == 0 and "1 of 2" in done.stdout
    alone = run_here("check_safety.py", *files[:2])
    assert alone.returncode == 2 and "generations_swapped" in alone.stderr


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{broken", "row 1 is not JSON"),
        ("[]", "row 1 is not an object"),
        ('{"text": "x", "emergency": true}', "row 1: field 'id'"),
        ('{"id": "a", "text": " ", "emergency": true}', "row 1: field 'text'"),
        ('{"id": "a", "text": "x", "emergency": "yes"}', "row 1: field 'emergency'"),
        ('{"id": "a", "text": "x", "emergency": true, "hard": 1}', "row 1: field 'hard'"),
        (
            '{"id": "a", "text": "x", "emergency": true}\n{"id": "a", "text": "y", "emergency": true}',
            "row 2: field 'id'",
        ),
        ("", "no rows"),
        (None, "no such file"),
    ],
)
def test_a_bad_row_is_one_line_and_exit_2(line: str | None, says: str, tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    if line is not None:
        path.write_text(line, encoding="utf-8")
    done = run_here("check_safety.py", "--messages", path)
    assert done.returncode == 2 and says in done.stderr and str(path) in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
