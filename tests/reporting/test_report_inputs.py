"""What the report reads: nothing redone, nothing stale, and what is missing or broken is named."""

import json
from pathlib import Path

import pytest

from conftest import run_script
from medsft.errors import UserError
from medsft.reporting.report import input_fingerprint, write_report
from synthetic_study import (
    Page,
    arguments,
    dump,
    make_study,
    strict_json,
    write_train,
)


@pytest.fixture(scope="module")
def full_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, _, _ = write_report(arguments(make_study(tmp_path_factory.mktemp("study"))))
    return folder


@pytest.mark.slow
def test_second_run_does_nothing_and_a_lost_file_comes_back(tmp_path: Path) -> None:
    study = make_study(tmp_path, ("baseline", "lora"))
    folder, first, done = write_report(arguments(study))
    written = (folder / "report.html").stat().st_mtime_ns
    assert not done
    assert write_report(arguments(study))[1:] == (first, True)
    assert (folder / "report.html").stat().st_mtime_ns == written
    (folder / "report.md").unlink()
    assert write_report(arguments(study, examples=3))[2] is False and (folder / "report.md").is_file()
    assert not [path for path in study.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    "name",
    ["data/data_report.json", "plan.json", "comparison.json", "lora/config.yaml", "lora/train.json", "lora/scores.json"]
    + ["baseline/generations.jsonl", "full_zero3/train.json"],
)
def test_fingerprint_covers_every_input(tmp_path: Path, name: str) -> None:
    study = make_study(tmp_path, ("baseline", "lora", "full"))
    before = input_fingerprint(study, arguments(study))
    assert input_fingerprint(study, arguments(study)) == before
    assert input_fingerprint(study, arguments(study, title="another")) != before
    with (study / name).open("a", encoding="utf-8") as handle:
        handle.write(" ")
    assert input_fingerprint(study, arguments(study)) != before


@pytest.mark.parametrize(
    ("missing", "stage"),
    [
        (["data/data_report.json"], "prepare_data.py"),
        (["comparison.json"], "score.py"),
        (["baseline/scores.json", "lora/scores.json"], "score.py"),
        (["baseline/generations.jsonl", "lora/generations.jsonl"], "generate.py"),
        (["lora/generations.jsonl"], "generate.py"),
    ],
)
def test_missing_input_names_the_stage(tmp_path: Path, missing: list[str], stage: str) -> None:
    study = make_study(tmp_path, ("baseline", "lora"))
    for name in missing:
        (study / name).unlink()
    with pytest.raises(UserError, match=stage) as error:
        write_report(arguments(study))
    assert "\n" not in str(error.value) and not (study / "report").exists()


def test_scores_of_other_answers_are_refused(tmp_path: Path) -> None:
    study = make_study(tmp_path, ("baseline",))
    with (study / "baseline" / "generations.jsonl").open("a", encoding="utf-8") as handle:
        handle.write('{"id": "new"}\n')
    with pytest.raises(UserError, match=r"scores.json covers 44 answers, generations.jsonl has 45.*score.py"):
        write_report(arguments(study))


@pytest.mark.parametrize("file", ["baseline/scores.json", "comparison.json"])
def test_score_that_is_no_number_is_refused(tmp_path: Path, file: str) -> None:
    study = make_study(tmp_path, ("baseline", "lora"))
    text = (study / file).read_text(encoding="utf-8").replace('"low": ', '"low": NaN, "was": ', 1)
    (study / file).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=file):
        write_report(arguments(study))


def test_negative_examples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="examples -1"):
        write_report(arguments(make_study(tmp_path, ("baseline",)), examples=-1))


def test_loss_that_became_nan_is_reported_as_missing(tmp_path: Path) -> None:
    study = make_study(tmp_path, ("baseline", "full"))
    train = json.loads((study / "full" / "train.json").read_text(encoding="utf-8"))
    for row in train["history"]:
        if row["step"] == 2 and "loss" in row:
            row["loss"] = float("nan")
    train["tokens_per_second"] = float("inf")
    dump(study / "full" / "train.json", train)
    folder, _, _ = write_report(arguments(study))
    results = strict_json(folder / "results.json")
    assert results["cost"]["full"]["tokens_per_second"] is None
    assert [row["step"] for row in results["offload_check"]["full_zero3"]] == [1, 3, 4]


def test_trained_but_unscored_arm_is_named(tmp_path: Path) -> None:
    study = make_study(tmp_path, ("baseline", "lora"))
    write_train(study / "qlora", 10, 0.05, 0)
    folder, results, _ = write_report(arguments(study))
    assert "qlora" not in results["arms"]
    assert "qlora: begun, but not scored" in (folder / "report.md").read_text(encoding="utf-8")


def test_offload_run_stands_beside_full(full_report: Path) -> None:
    rows = strict_json(full_report / "results.json")["offload_check"]["full_zero3"]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert rows[0]["difference"] == pytest.approx(-0.0001)
    assert "ZeRO-3 offload check: full_zero3" in Page((full_report / "report.html").read_text(encoding="utf-8")).text


def test_script_refuses_an_empty_folder(tmp_path: Path) -> None:
    done = run_script("report.py", "--study_dir", str(tmp_path / "nowhere"))
    assert done.returncode == 2
    assert (
        done.stderr.strip().startswith("error: ")
        and "prepare_data.py" in done.stderr
        and "Traceback" not in done.stderr
    )
