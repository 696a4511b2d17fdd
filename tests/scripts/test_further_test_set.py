"""A further test set is answered and scored in a folder of its own, and shown apart in the report."""

import shutil

import pytest

from conftest import run_here, run_script
from medsft.files import read_json, read_jsonl, write_jsonl
from medsft.reporting.apart import sections
from medsft.reporting.study import input_files

pytestmark = pytest.mark.slow
ASKED = [
    "hiccups",
    "a stye",
    "chilblains",
    "a blister",
    "cramp",
    "nettle rash",
    "a splinter",
    "sunburn",
    "jet lag",
    "gas",
]


@pytest.fixture(scope="module")
def study(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("further")
    rows = [
        {
            "patient_message": f"What helps with {what}?",
            "doctor_response": f"For {what}, wait {n + 2} days and rest it.",
        }
        | {"statements": [f"Wait {n + 2} days", "Rest it"]}
        for n, what in enumerate(ASKED)
    ]
    write_jsonl(folder / "kqa.jsonl", rows)
    base = ("--study_dir", folder / "study", "--model_name_or_path", tiny_model)
    short = ("--max_new_tokens", 8, "--max_rows", 6, "--likelihood_rows", 2, "--memorization_rows", 2)
    for step in (
        ("prepare_data.py", *base, "--max_rows", 120, "--also_test", folder / "kqa.jsonl"),
        ("generate.py", *base, *short),
        ("generate.py", *base, *short, "--test", "kqa"),
        ("generate.py", *base, *short, "--test", "kqa", "--arm", "baseline_other"),
        ("score.py", *base[:2], "--resamples", 200),
        ("score.py", *base[:2], "--resamples", 200, "--test", "kqa"),
        ("report.py", *base[:2], "--examples", 1),
    ):
        done = run_script(*step)
        assert done.returncode == 0, f"{step[0]}: {done.stderr[-2000:]}"
    return folder / "study"


def test_answers_and_scores_are_apart(study):
    own = read_jsonl(study / "baseline" / "generations.jsonl")
    other = read_jsonl(study / "also_test" / "kqa" / "baseline" / "generations.jsonl")
    assert {row["source"] for row in other} == {"kqa"} and not {row["source"] for row in own} & {"kqa"}
    assert all(len(row["statements"]) == 2 for row in other) and "statements" not in own[0]
    assert not (study / "also_test" / "kqa" / "baseline" / "memorization.jsonl").exists()
    assert (study / "also_test" / "kqa" / "analysis_plan.json").is_file()
    scores = read_json(study / "also_test" / "kqa" / "baseline" / "scores.json")
    assert scores["n"] == 6 and scores["metrics"]["completeness"]["n" if "n" in scores["metrics"] else "mean"] >= 0
    assert "completeness" not in read_json(study / "baseline" / "scores.json")["metrics"]
    assert read_json(study / "comparison.json")["comparisons"] == []


def test_the_report_shows_it_apart_and_follows_its_files(study):
    page = (study / "report" / "report.html").read_text()
    assert "Another test set: kqa" in page and "What the answers leave out" in page
    assert "cannot tell a contradiction" in page
    results = read_json(study / "report" / "results.json")
    assert set(results["arms"]) == {"baseline"}
    followed = {str(path.relative_to(study)) for path in input_files(study)}
    assert {"also_test/kqa/comparison.json", "also_test/kqa/baseline/omissions.jsonl"} <= followed
    titles = [table.title for table in sections.tables(study)]
    assert titles[0] == "Another test set: kqa" and len(titles) == 3


def test_the_same_command_does_nothing_and_an_unknown_set_is_refused(study, tmp_path):
    again = run_here("score.py", "--study_dir", study, "--resamples", 200, "--test", "kqa")
    assert "already done" in again.stdout
    done = run_here("generate.py", "--study_dir", study, "--test", "qka")
    assert done.returncode == 2 and "there are test, kqa" in done.stderr
    shutil.copytree(study / "data", tmp_path / "data")
    done = run_here("score.py", "--study_dir", tmp_path, "--test", "kqa")
    assert done.returncode == 2 and "no arm with a generations.jsonl" in done.stderr


def test_fewer_rows_are_the_first_of_the_further_set(study):
    from medsft.data.split_files import load_split, split_of_test

    few = run_here("score.py", "--study_dir", study, "--resamples", 200, "--test", "kqa", "--max_rows", 4)
    assert few.returncode == 0, few.stderr
    kept = read_jsonl(study / "also_test" / "kqa" / "baseline" / "scores_per_example.jsonl")
    assert {row["id"] for row in kept} == {*load_split(str(study), split_of_test("kqa"))["id"][:4]}
