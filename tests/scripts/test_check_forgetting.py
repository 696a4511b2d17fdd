"""check_forgetting.py on small models: rows, resuming, the declared margin; and an arm that forgot is caught."""

import json
from pathlib import Path

import pytest

from conftest import run_here, write_adapter_arm
from medsft.evaluation.forgetting import items, study_files
from medsft.files import read_json, read_jsonl, write_jsonl
from medsft.models import embedded

SHORT = ("--items_per_kind", 3, "--max_new_tokens", 3)


def ask(study: Path, arm: str, model: Path | str, *more: object) -> str:
    done = run_here("check_forgetting.py", "--study_dir", study, "--arm", arm, "--model_name_or_path", model, *more)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_rows_of_every_kind_are_written_and_asked_once(tiny_model: Path, tmp_path: Path) -> None:
    said = ask(tmp_path, "baseline", tiny_model, *SHORT)
    rows = read_jsonl(tmp_path / "baseline" / "forgetting.jsonl")
    asked = items.chosen(None, 3)
    assert [row["id"] for row in rows] == [item["id"] for item in asked]
    assert all(row["correct"] in (0, 1) and isinstance(row["answer"], str) for row in rows)
    assert f"baseline: overall {sum(row['correct'] for row in rows)} of 18" in said
    record = read_json(tmp_path / "baseline" / "forgetting.json")
    assert record["weights"] == {"base_model": str(tiny_model)} and record["n"] == 18
    assert not [*tmp_path.glob("baseline/*.partial.jsonl")]
    assert "already done" in ask(tmp_path, "baseline", tiny_model, *SHORT)
    assert "wrote" in ask(tmp_path, "baseline", tiny_model, "--items_per_kind", 4, *SHORT[2:])


def test_an_interrupted_run_goes_on_after_its_last_batch(tiny_model: Path, tmp_path: Path) -> None:
    ask(tmp_path, "baseline", tiny_model, *SHORT)
    path = tmp_path / "baseline" / "forgetting.jsonl"
    rows, digest = read_jsonl(path), read_json(path.with_suffix(".json"))["fingerprint"]
    kept = [row | {"answer": "kept"} for row in rows if row["kind"] in items.BY_LIKELIHOOD]
    part = path.with_name(f"forgetting.{digest}.partial.jsonl")
    write_jsonl(part, kept)
    part.write_text(part.read_text() + '{"id": "torn')
    path.unlink()
    path.with_suffix(".json").unlink()
    ask(tmp_path, "baseline", tiny_model, *SHORT)
    again = read_jsonl(path)
    assert [row for row in again if row["kind"] in items.BY_LIKELIHOOD] == kept
    assert [row for row in again if row["kind"] not in items.BY_LIKELIHOOD] == [
        row for row in rows if row["kind"] not in items.BY_LIKELIHOOD
    ]


def test_the_margin_is_declared_before_the_first_arm_and_stays(tiny_model: Path, tmp_path: Path) -> None:
    ask(tmp_path, "baseline", tiny_model, *SHORT, "--margin", 0.2)
    write_adapter_arm(tmp_path / "lora", tiny_model, seed=1)
    assert "the margin stays 0.2" in ask(tmp_path, "lora", tiny_model, *SHORT, "--margin", 0.5)
    found = study_files.of_study(tmp_path)
    assert found["plan"]["margin"] == 0.2 and found["suite"]["comparisons"][0]["margin"] == 0.2
    assert found["changes"] == ["lora: margin 0.5, declared was 0.2"]
    assert found["plan_hash"] == read_json(tmp_path / "forgetting_plan.json")["hash"]


def test_rows_that_are_not_of_these_weights_or_this_suite_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    ask(tmp_path, "baseline", tiny_model, *SHORT)
    write_adapter_arm(tmp_path / "lora", tiny_model, seed=1)
    ask(tmp_path, "lora", tiny_model, "--items_per_kind", 3, "--max_new_tokens", 4)
    with pytest.raises(study_files.UserError, match="max_new_tokens 4, the baseline with 3"):
        study_files.of_study(tmp_path)
    ask(tmp_path, "lora", tiny_model, *SHORT)
    study_files.of_study(tmp_path)
    rows = tmp_path / "lora" / "forgetting.jsonl"
    rows.write_text(rows.read_text().replace('"correct": 0', '"correct": 1', 1))
    with pytest.raises(study_files.UserError, match="changed since it was written"):
        study_files.of_study(tmp_path)
    plan = tmp_path / "forgetting_plan.json"
    plan.write_text(plan.read_text().replace("0.1", "0.3"))
    with pytest.raises(study_files.UserError, match="edited after it was written"):
        study_files.of_study(tmp_path)


def test_own_items_are_asked_besides_and_a_wrong_row_is_one_line(tiny_model: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.jsonl"
    row = {
        "id": "mine",
        "kind": "medical",
        "prompt": "Where is the heart?",
        "choices": ["Left", "Right"],
        "answer": "A",
    }
    write_jsonl(own, [row])
    ask(tmp_path, "baseline", tiny_model, *SHORT, "--items", own)
    assert read_jsonl(tmp_path / "baseline" / "forgetting.jsonl")[-1]["kind"] == "own_medical"
    write_jsonl(own, [row, row | {"id": "other", "answer": "C"}])
    done = run_here("check_forgetting.py", "--study_dir", tmp_path, "--items", own)
    assert done.returncode == 2 and done.stderr.startswith(f"error: {own}: row 2: field 'answer'")
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--margin", 1.5), "margin 1.5"),
        (("--items_per_kind", 0), "items_per_kind 0"),
        (("--max_new_tokens", 0), "max_new_tokens 0"),
        (("--arm", "lora"), "train the arm first"),
    ],
)
def test_an_option_without_meaning_is_one_line(options: tuple[object, ...], says: str, tmp_path: Path) -> None:
    done = run_here("check_forgetting.py", "--study_dir", tmp_path, *options)
    assert done.returncode == 2 and says in done.stderr


@pytest.mark.slow
def test_an_arm_that_forgot_is_caught_and_an_identical_one_is_not(tmp_path: Path) -> None:
    """The embedded model with weights damaged by noise, and with an adapter that changes nothing."""
    import safetensors.torch

    model = embedded.SMOLLM2
    for arm in ("damaged", "same"):
        write_adapter_arm(tmp_path / arm, Path(model), seed=1)
    weights = tmp_path / "same" / "adapter" / "adapter_model.safetensors"
    tensors = safetensors.torch.load_file(weights)
    safetensors.torch.save_file({name: t * ("lora_B" not in name) for name, t in tensors.items()}, weights)
    for arm in ("baseline", "damaged", "same"):
        ask(tmp_path, arm, model, "--items_per_kind", 20, "--max_new_tokens", 4, "--batch_size", 80)
    rows = {(row["arm"], row["kind"]): row for row in study_files.of_study(tmp_path)["suite"]["comparisons"]}
    damaged, same = rows["damaged", "overall"], rows["same", "overall"]
    assert damaged["quality"] == "inferior" and damaged["p"] < 0.001
    assert rows["damaged", "general"]["p"] < 0.05 and rows["damaged", "general"]["difference"] < -0.2
    assert same["quality"] == "equivalent" and same["lost"] == same["gained"] == 0
    answers = [json.loads(line)["answer"] for line in (tmp_path / "same" / "forgetting.jsonl").open()]
    assert answers == [json.loads(line)["answer"] for line in (tmp_path / "baseline" / "forgetting.jsonl").open()]
