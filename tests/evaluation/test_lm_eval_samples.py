"""Samples of lm-evaluation-harness, in the format of its version 0.4.13, as rows for the paired tests."""

from pathlib import Path
from typing import Any

import pytest

from conftest import run_here
from medsft.errors import UserError
from medsft.evaluation.forgetting import comparison, lm_eval_samples, study_files
from medsft.files import read_json, write_json, write_jsonl

TIME = "2026-11-30T07-24-56.419447"


def sample(number: int, right: float | bool, metric: str = "acc", **more: Any) -> dict[str, Any]:
    """A row as `lm_eval --log_samples` writes it for multiple choice."""
    row = {
        "doc_id": number,
        "doc": {"question": f"Which is {number}?", "choices": ["a", "b"], "answer": 1},
        "target": "1",
        "arguments": {"gen_args_0": {"arg_0": f"Question: Which is {number}?\nAnswer:", "arg_1": " a"}},
        "resps": [[["-2.88", "False"]], [["-4.54", "False"]]],
        "filtered_resps": [["-2.88", "False"], ["-4.54", "False"]],
        "filter": "none",
        "metrics": [metric],
        "doc_hash": f"{number:064x}",
        "prompt_hash": "0" * 64,
        "target_hash": "0" * 64,
        metric: right,
    }
    return row | more


def written(folder: Path, arm: str, task: str, rows: list[dict[str, Any]], time: str = TIME) -> Path:
    path = folder / arm / "__models__mine" / f"samples_{task}_{time}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_jsonl(path, rows)
    return path


def generated(number: int, right: float, name: str) -> dict[str, Any]:
    return sample(number, right, "exact_match", filter=name, resps=[["It is 4"]], filtered_resps=["It is 4"])


def test_rows_of_choices_texts_and_instructions_are_read(tmp_path: Path) -> None:
    written(tmp_path, "a", "medqa_4options", [sample(0, 1.0, acc_norm=0.0), sample(1, 0.0, acc_norm=1.0)])
    written(tmp_path, "a", "gsm8k", [generated(0, 0.0, "strict-match"), generated(0, 1.0, "flexible-extract")])
    written(tmp_path, "a", "ifeval", [sample(3, True, "prompt_level_strict_acc", inst_level_strict_acc=[True])])
    written(tmp_path, "a", "ifeval", [sample(3, False, "prompt_level_strict_acc")], "2026-01-01T00-00-00.000001")
    rows, chances = lm_eval_samples.read(tmp_path / "a")
    assert [(row["id"], row["correct"]) for row in rows] == [
        ("gsm8k/0", 0),
        ("ifeval/3", 1),
        ("medqa_4options/0", 1),
        ("medqa_4options/1", 0),
    ]
    assert rows[0]["answer"] == "['It is 4']" and chances["medqa_4options/0"] == 0.5 and "gsm8k/0" not in chances
    assert rows[2]["item"] == "0" * 64


def study_of(folder: Path) -> Path:
    study = folder / "study"
    for arm in ("baseline", "lora"):
        (study / arm).mkdir(parents=True)
    write_json(study / "lora" / "train.json", {"fingerprint": "f" * 16})
    return study


def test_two_arms_are_paired_by_the_same_tests_as_the_bundled_suite(tmp_path: Path) -> None:
    study, samples = study_of(tmp_path), tmp_path / "samples"
    written(samples, "baseline", "medqa_4options", [sample(n, 1.0) for n in range(40)])
    written(samples, "lora", "medqa_4options", [sample(n, float(n >= 20)) for n in range(40)])
    done = run_here("check_forgetting.py", "--study_dir", study, "--lm_eval_samples", samples)
    assert done.returncode == 0, done.stderr
    assert "lora: overall 20 of 40, medqa_4options 20 of 40" in done.stdout
    found = study_files.of_study(study)
    overall, task = found["public"]["comparisons"]
    assert (overall["kind"], task["kind"]) == (comparison.OVERALL, "medqa_4options")
    assert (task["lost"], task["gained"], task["quality"], task["chance"]) == (20, 0, "inferior", 0.5)
    assert found["suite"] == {"arms": {}, "comparisons": []} and found["plan_hash"] == ""
    assert found["public"]["arms"]["lora"]["weights"]["train"] == "f" * 16
    write_json(study / "lora" / "train.json", {"fingerprint": "e" * 16})
    with pytest.raises(UserError, match="answered by other weights"):
        study_files.of_study(study)
    sources = read_json(study / "lora" / "forgetting_public.json")["sources"]
    assert [*sources] == [f"lora/__models__mine/samples_medqa_4options_{TIME}.jsonl"]


@pytest.mark.parametrize(
    ("name", "rows", "says"),
    [
        ("task", [sample(0, 0.5)], "row 1: field 'acc' is 0.5, neither 0 nor 1"),
        ("task", [sample(0, 1), sample(1, 1, "bleu")], "row 2: none of the fields prompt_level_strict_acc, acc"),
        ("task", [{"id": 1}], "row 1: field 'doc_id' is missing"),
        ("task", [], "no rows"),
    ],
)
def test_a_bad_file_is_one_line(name: str, rows: list[dict[str, Any]], says: str, tmp_path: Path) -> None:
    path = written(tmp_path, "a", name, rows)
    with pytest.raises(UserError) as error:
        lm_eval_samples.read(tmp_path / "a")
    assert str(error.value).startswith(str(path)) and says in str(error.value)


def test_a_folder_without_the_baselines_samples_or_with_a_strange_arm_is_refused(tmp_path: Path) -> None:
    study, samples = study_of(tmp_path), tmp_path / "samples"
    nothing = run_here("check_forgetting.py", "--study_dir", study, "--lm_eval_samples", samples)
    assert nothing.returncode == 2 and "no such folder" in nothing.stderr
    written(samples, "lora", "task", [sample(0, 1)])
    alone = run_here("check_forgetting.py", "--study_dir", study, "--lm_eval_samples", samples)
    assert alone.returncode == 2 and "there are those of lora" in alone.stderr
    written(samples, "baseline", "task", [sample(0, 1)])
    written(samples, "other", "task", [sample(0, 1)])
    strange = run_here("check_forgetting.py", "--study_dir", study, "--lm_eval_samples", samples)
    assert strange.returncode == 2 and "no arm 'other'" in strange.stderr
    written(samples, "lora", "task", [sample(0, 1)], time="yesterday")
    named = run_here("check_forgetting.py", "--study_dir", study, "--lm_eval_samples", samples)
    assert named.returncode == 2 and "not named samples_TASK_TIME.jsonl" in named.stderr
