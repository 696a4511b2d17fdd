"""The report on forgetting: table, sentence and results.json, from an arm that lost much and one that lost nothing."""

from pathlib import Path

import pytest

from medsft.evaluation.forgetting import study_files
from medsft.evaluation.forgetting.answering import Row
from medsft.files import read_json
from medsft.reporting.report import write_report
from medsft.reporting.sections import forgetting_table
from synthetic_study import arguments, make_study, strict_json

KINDS = ("instructions", "general")


def write_rows(study: Path, arm: str, right: dict[str, int], n: int = 100) -> None:
    rows: list[Row] = [
        {"id": f"{kind}-{at}", "kind": kind, "correct": int(at < right[kind]), "answer": "x", "item": f"{kind}{at}"}
        for kind in KINDS
        for at in range(n)
    ]
    record = {"weights": study_files.weights_of(study, arm, "toy-135M"), "settings": {"max_new_tokens": 48}}
    chances = {row["id"]: 0.25 for row in rows if row["kind"] == "general"}
    study_files.write(study / arm / study_files.SUITE, rows, record | {"chances": chances})


@pytest.fixture
def study(tmp_path: Path) -> Path:
    made = make_study(tmp_path)
    study_files.declare(made, 0.1, [])
    write_rows(made, "baseline", {"instructions": 60, "general": 70})
    write_rows(made, "lora", {"instructions": 20, "general": 70})
    write_rows(made, "full", {"instructions": 59, "general": 70})
    return made


def test_the_report_names_the_loss_beyond_the_margin_as_harm(study: Path) -> None:
    folder, results, _ = write_report(arguments(study))
    (first,) = [paragraph for paragraph in results["verdict"] if "Forgetting, lora" in paragraph]
    assert (
        "Forgetting, lora on the bundled suite: 90 of 200 right against 130 (−0.200 [−0.261, −0.150]), a loss beyond "
        "the margin of 0.1; it lost instruction following (20 of 100 against 60)."
    ) in first
    assert "Forgetting, full on the bundled suite: 129 of 200 right against 130" in first
    assert "within the margin of 0.1; no kind of items was shown to be lost." in first
    assert first.index("Forgetting, ") < first.index(" held-out dialogues: ")
    found = strict_json(folder / "results.json")["forgetting"]
    assert found["plan_hash"] == read_json(study / "forgetting_plan.json")["hash"] and found["public"]["arms"] == {}
    rows = {(row["arm"], row["kind"]): row["quality"] for row in found["suite"]["comparisons"]}
    assert rows["lora", "instructions"] == "inferior" and rows["full", "overall"] == "equivalent"
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Forgetting: what else did fine-tuning cost?" in page and found["plan_hash"] in page
    short = (folder / "report.md").read_text(encoding="utf-8")
    assert "Forgotten, of general questions: lora 90 of 200 against 130 right, beyond the margin." in short
    assert "(make forgetting)" not in page + short


def test_the_report_is_written_anew_when_an_arm_is_asked_again(study: Path) -> None:
    write_report(arguments(study))
    assert write_report(arguments(study))[2]
    write_rows(study, "full", {"instructions": 50, "general": 70})
    _, results, already = write_report(arguments(study))
    assert not already
    (row,) = [row for row in forgetting_table.table(results).rows if row[:2] == ["full", "instruction following"]]
    assert row[2:7] == ["100", "0", "60", "50", "10 / 0"] and row[9] == "lost, perhaps within"


def test_what_cannot_be_told_or_lost_is_said_so(tmp_path: Path) -> None:
    made = make_study(tmp_path)
    write_rows(made, "baseline", {"instructions": 10, "general": 15}, n=20)
    write_rows(made, "lora", {"instructions": 9, "general": 14}, n=20)
    (text,) = forgetting_table.sentences(write_report(arguments(made))[1])
    assert "and whether that is within the margin of 0.1 cannot be told with 40 items" in text
    write_rows(made, "baseline", {"instructions": 0, "general": 6}, n=20)
    results = write_report(arguments(made))[1]
    (text,) = forgetting_table.sentences(results)
    assert "which shows nothing: the baseline is only 0.025 above chance" in text
    assert "which no plan declared" in forgetting_table.table(results).note


def test_without_the_suite_the_report_says_that_it_was_not_measured(tmp_path: Path) -> None:
    folder, results, _ = write_report(arguments(make_study(tmp_path)))
    assert "forgetting" not in results and forgetting_table.sentences(results) == []
    assert "What fine-tuning cost the model elsewhere (make forgetting)." in (folder / "report.md").read_text()
