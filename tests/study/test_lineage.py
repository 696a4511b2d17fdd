"""A study cannot lie about itself: a stage refuses parts that were made from something else."""

import json
import shutil
import socket
from pathlib import Path

import pytest

from conftest import run_here
from medsft.arguments import DataArguments
from medsft.data.prepare import prepare
from medsft.errors import UserError
from medsft.files import read_json, sha256_file, write_json
from medsft.study import lineage
from synthetic_study import make_study

ROWS = [
    (f"My knee number {i} hurts when I climb {i + 3} stairs.", f"Rest knee {i} for {i + 2} days.") for i in range(40)
]


def dialogues(path: Path, rows: list[tuple[str, str]]) -> str:
    path.write_text("".join(json.dumps({"Patient": p, "Doctor": d}) + "\n" for p, d in rows))
    return str(path)


def change(path: Path, **values: object) -> None:
    write_json(path, {**(read_json(path) if path.is_file() else {}), **values})


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study whose records all name what they were made from."""
    folder = make_study(tmp_path, ("baseline", "lora"))
    split = lineage.split_of(folder)
    change(folder / "lora" / "train.json", comparable={"data": split}, fingerprint="a" * 16)
    for arm in ("baseline", "lora"):
        trained = "a" * 16 if arm == "lora" else "toy-135M"
        change(folder / arm / "generation.json", data=split, trained=trained)
        answers = sha256_file(folder / arm / "generations.jsonl")
        change(folder / arm / "scores.json", answers=answers, fingerprint=f"scores of {arm}")
    change(folder / "comparison.json", scores={arm: f"scores of {arm}" for arm in ("baseline", "lora")})
    shutil.rmtree(folder / "full_zero3", ignore_errors=True)
    return folder


@pytest.mark.parametrize("record", ["train.json", "generation.json"])
def test_data_that_arms_stand_on_is_not_replaced(tmp_path: Path, record: str) -> None:
    source, other = (
        dialogues(tmp_path / "a.jsonl", ROWS),
        dialogues(tmp_path / "b.jsonl", ROWS[1:] + [("Itch.", "Wash it.")]),
    )
    options = {"study_dir": str(tmp_path / "study"), "workers": 1}
    first = prepare(DataArguments(data=[source], **options))
    assert (
        prepare(DataArguments(data=[other], **options))["fingerprint"] != first["fingerprint"]
    )  # nothing stands on it
    before = prepare(DataArguments(data=[source], **options))
    made = (
        {"comparable": {"data": before["fingerprint"]}} if record == "train.json" else {"data": before["fingerprint"]}
    )
    write_json(tmp_path / "study" / "lora" / record, made)
    with pytest.raises(UserError, match=r"lora stand on its rows.*start another study.*STUDY=NEW"):
        prepare(DataArguments(data=[other], **options))
    assert read_json(tmp_path / "study" / "data" / "data_report.json") == before
    assert not [path for path in (tmp_path / "study").iterdir() if path.name.endswith(".tmp")]
    done = run_here("prepare_data.py", "--data", other, "--study_dir", tmp_path / "study", "--workers", 1)
    assert done.returncode == 2 and done.stderr.count("\n") == 1


def test_a_study_whose_parts_agree_passes(study: Path) -> None:
    lineage.check_arms(study, ("baseline", "lora"))
    lineage.check_scores(study, ("baseline", "lora"))
    lineage.check_replacement(study, lineage.split_of(study))
    lineage.check_report(study)


def test_records_from_before_say_nothing(tmp_path: Path) -> None:
    old = make_study(tmp_path, ("baseline", "lora"))
    lineage.check_arms(old, ("baseline", "lora"))
    lineage.check_scores(old, ("baseline", "lora"))
    lineage.check_replacement(old, "another")


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("data/data_report.json", {"fingerprint": "2" * 16}, "lora: trained on another split"),
        ("baseline/generation.json", {"data": "2" * 16}, r"baseline/gen.*: answers to another split.*baseline"),
        ("lora/train.json", {"fingerprint": "b" * 16}, r"before the arm was trained again.*--arm lora"),
    ],
)  # fmt: skip
def test_arms_and_answers_that_disagree_are_named(study: Path, file: str, values: dict[str, str], message: str) -> None:
    change(study / file, **values)
    with pytest.raises(UserError, match=message) as error:
        lineage.check_arms(study, ("baseline", "lora") if "baseline" in file else ("lora", "baseline"))
    assert "\n" not in str(error.value)


def test_scores_of_other_answers_and_comparisons_of_other_scores_are_named(study: Path) -> None:
    answers = study / "lora" / "generations.jsonl"
    answers.write_text(answers.read_text().replace("rest", "walk"))
    with pytest.raises(UserError, match=r"lora/scores.json: scores of other answers.*score.py"):
        lineage.check_scores(study, ["lora"])
    change(study / "lora" / "scores.json", answers=sha256_file(answers), fingerprint="new")
    with pytest.raises(UserError, match=r"compares other scores than lora/scores.json.*score.py"):
        lineage.check_scores(study, ["lora"])


def test_sampled_answers_and_arms_that_are_gone_are_part_of_it(study: Path) -> None:
    sampled = study / "lora" / "sampled" / "seed_1.jsonl"
    sampled.parent.mkdir()
    sampled.write_text("{}\n")
    change(study / "lora" / "scores.json", also_read={"sampled/seed_1.jsonl": sha256_file(sampled)})
    lineage.check_scores(study, ["lora"])
    sampled.write_text('{"prediction": "another"}\n')
    with pytest.raises(UserError, match=r"scores of other answers than sampled/seed_1.jsonl.*score.py"):
        lineage.check_scores(study, ["lora"])
    shutil.rmtree(study / "lora")
    with pytest.raises(UserError, match=r"compares lora, whose scores are not here.*score.py"):
        lineage.check_scores(study, ["baseline"])


def test_answers_to_a_further_test_set_are_checked_where_they_lie(study: Path) -> None:
    further = study / "also_test" / "kqa" / "lora"
    change(study / "data" / "data_report.json", also_test={"kqa": {"fingerprint": "k" * 16}})
    change(further / "generation.json", data="k" * 16, trained="a" * 16)
    lineage.check_arms(study, ["lora"], "kqa")
    change(further / "generation.json", trained="0" * 16)
    with pytest.raises(UserError, match=r"kqa/lora/gen.*before the arm was trained again.*--arm lora --test kqa"):
        lineage.check_arms(study, ["lora"], "kqa")
    change(further / "generation.json", data="2" * 16)
    with pytest.raises(UserError, match=r"kqa/lora/generations.jsonl: answers to another split.*--test kqa"):
        lineage.check_arms(study, ["lora"], "kqa")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("generate.py", ("--arm", "lora")),
        ("score.py", ()),
        ("report.py", ()),
        ("review.py", ("--arm", "lora")),
        ("chat.py", ("--port", "0")),
        ("export.py", ("--arm", "lora")),
    ],
)
def test_every_stage_stops_where_an_arm_was_trained_on_other_rows(
    study: Path, script: str, words: tuple[str, ...]
) -> None:
    (study / "lora" / "adapter").mkdir()
    change(study / "lora" / "train.json", quantization=None)
    change(study / "data" / "data_report.json", fingerprint="2" * 16)
    done = run_here(script, "--study_dir", study, *words)
    assert done.returncode == 2, done.stderr
    assert "lora: trained on another split" in done.stderr and "STUDY=NEW" in done.stderr
    assert not (study / "report").exists() and not (study / "review").exists()


def test_a_report_about_other_rows_is_not_compared_or_exported(study: Path) -> None:
    write_json(study / "report" / "results.json", {"data": {"fingerprint": "9" * 16}})
    with pytest.raises(UserError, match=r"report: about another split.*report.py"):
        lineage.check_report(study)
    for script, words in (("compare.py", ("--studies", f"{study},{study}")), ("export.py", ("--study_dir", study))):
        done = run_here(script, *words)
        assert done.returncode == 2 and "about another split" in done.stderr


def test_a_taken_port_is_named_before_any_model_is_loaded(study: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run_here("chat.py", "--study_dir", study, "--port", port)
    assert done.returncode == 2 and "loading" not in done.stdout
    assert f"--port {port}: address already in use" in done.stderr and f"--port {port + 1}" in done.stderr


def test_a_baseline_of_another_model_is_no_baseline(study: Path) -> None:
    change(study / "lora" / "train.json", base_model="mistral", base_revision="m" * 16)
    change(study / "baseline" / "generation.json", base_model="smollm", base_revision="s" * 16)
    change(study / "lora" / "generation.json", base_model="mistral", base_revision="m" * 16)
    with pytest.raises(UserError, match=r"answers of smollm, and lora was trained from mistral.*path mistral$"):
        lineage.check_arms(study, ["baseline", "lora"])
    change(study / "baseline" / "generation.json", base_model="/models/mistral", base_revision="m" * 16)
    lineage.check_arms(study, ["baseline", "lora"])
