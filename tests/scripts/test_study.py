"""The whole study, script by script, on a tiny model: files of the contract, true counts, nothing redone."""

import json
import shutil
from pathlib import Path

import pytest

from conftest import RECIPES, run_script
from medsft.inference import part_files

DEMO = RECIPES / "configs" / "demo"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study(tiny_study: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared data, one trained arm, answers of it and of the baseline, scores and report."""
    folder = tmp_path_factory.mktemp("whole") / "study"
    shutil.copytree(tiny_study / "data", folder / "data")
    where = ("--study_dir", folder)
    base = ("--model_name_or_path", tiny_model)
    steps = [
        ("plan_memory.py", "--config", DEMO / "plan.yaml", *where, *base),
        ("sft_lora.py", "--config", DEMO / "lora.yaml", *where, *base, "--max_steps", 2, "--eval_strategy", "no"),
        ("generate.py", "--arm", "baseline", *where, *base, "--max_new_tokens", 12, "--max_rows", 10),
        ("generate.py", "--arm", "lora", *where, *base, "--max_new_tokens", 12, "--max_rows", 10),
        ("score.py", *where, "--resamples", 200),
        ("report.py", *where, "--examples", 3),
    ]
    for step in steps:
        done = run_script(*step)
        assert done.returncode == 0, f"{step[0]}: {done.stderr[-2000:]}"
    return folder


def test_answers_are_those_of_the_contract(study: Path) -> None:
    rows = [json.loads(line) for line in (study / "lora" / "generations.jsonl").read_text().splitlines()]
    assert len(rows) == 10
    for row in rows:
        assert set(row) == {
            "id", "group", "source", "prompt", "messages", "reference", "prediction", "stopped", "new_tokens"
        }  # fmt: skip
        assert row["messages"][-1]["role"] == "user" and row["messages"][-1]["content"] in row["prompt"]
        assert 1 <= row["new_tokens"] <= 12
        assert row["reference"]
        assert "<|im_" not in row["prediction"]
    baseline = [json.loads(line)["id"] for line in (study / "baseline" / "generations.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == baseline


def test_results_have_arms_floors_and_intervals(study: Path) -> None:
    results = json.loads((study / "report" / "results.json").read_text())
    assert set(results["arms"]) == {"baseline", "lora"}
    assert set(results["floors"]) == {"constant", "shuffled", "echo", "nearest"}
    for arm in results["arms"].values():
        assert arm["n"] == 10
        for name in ("rouge1", "rouge2", "rougeL", "bertscore_f1"):
            metric = arm["metrics"][name]
            assert "no_interval" in metric or metric["low"] <= metric["mean"] <= metric["high"]
    assert {c["arm"] for c in results["comparisons"]} == {"lora"}
    assert results["floor_terms"]["max_new_tokens"] == 12 and results["floor_terms"]["train_rows"]
    assert {c["arm"] for c in results["floor_comparisons"]} == {"baseline", "lora"}
    assert results["plan_hash"] and results["plan"]["declared"] == "before the first answer"
    page = (study / "report" / "report.html").read_text()
    assert "data:image/png;base64" in page


def test_a_second_run_redoes_nothing(study: Path, tiny_model: Path) -> None:
    before = (study / "lora" / "generations.jsonl").stat().st_mtime_ns
    where = ("--study_dir", study)
    base = ("--model_name_or_path", tiny_model)
    again = run_script("generate.py", "--arm", "lora", *where, *base, "--max_new_tokens", 12, "--max_rows", 10)
    assert "already done" in again.stdout
    assert (study / "lora" / "generations.jsonl").stat().st_mtime_ns == before
    assert "already done" in run_script("score.py", *where, "--resamples", 200).stdout
    assert "already done" in run_script("report.py", *where, "--examples", 3).stdout


def test_an_untrained_arm_is_named(study: Path) -> None:
    done = run_script("generate.py", "--arm", "nobody", "--study_dir", study)
    assert done.returncode == 2
    assert "train the arm first" in done.stderr


def test_a_torn_line_is_answered_again(tmp_path: Path) -> None:
    partial = tmp_path / "generations.x.partial.jsonl"
    part_files.append(partial, [{"id": "a", "prediction": "one"}])
    with partial.open("a") as handle:
        handle.write('{"id": "b", "predic')
    assert set(part_files.rows_of(partial)) == {"a"}
    part_files.end_torn_line(partial)
    part_files.append(partial, [{"id": "b", "prediction": "two"}])
    assert {k: v["prediction"] for k, v in part_files.rows_of(partial).items()} == {"a": "one", "b": "two"}
