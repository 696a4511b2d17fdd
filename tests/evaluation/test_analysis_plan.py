"""The plan is written before the first answer, kept afterwards, and every change since is named."""

from pathlib import Path
from typing import Any

import pytest

from medsft.arguments import GenerateArguments, ScoreArguments
from medsft.errors import UserError
from medsft.evaluation import analysis_plan
from medsft.evaluation.statistics.equivalence import quality, read_margins
from medsft.files import read_json, write_json, write_jsonl

ROWS = ["a", "b", "c"]


def declare(study: Path, trained: Any = None, **score: Any) -> str:
    answers = GenerateArguments(study_dir=str(study))
    return analysis_plan.declare(ScoreArguments(**score), answers, ROWS, trained or {})


def now(study: Path, rows: list[str] = ROWS, trained: Any = None, **score: Any) -> list[str]:
    answers = {name: getattr(GenerateArguments(), name) for name in analysis_plan.ANSWERED}
    made = analysis_plan.plan(ScoreArguments(**score), answers, rows, trained or {})
    return analysis_plan.compare(study, made, ["baseline"])["changes"]


def test_the_plan_may_change_until_the_first_answer_and_not_after(tmp_path: Path) -> None:
    first = declare(tmp_path)
    second = declare(tmp_path, primary=["nll"])
    assert first != second
    write_jsonl(tmp_path / "baseline" / "generations.jsonl", [{}])
    assert declare(tmp_path, primary=["rouge1"]) == second
    kept = read_json(tmp_path / analysis_plan.FILE)
    assert (kept["plan"]["primary"], kept["declared"]) == (["nll"], "before the first answer")
    assert kept["plan"]["rows"]["n"] == 3 and kept["plan"]["margins"]["rouge1"] == 0.02


def test_a_plan_written_after_answers_says_so(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "baseline" / "generations.0.partial.jsonl", [{}])
    declare(tmp_path)
    assert read_json(tmp_path / analysis_plan.FILE)["declared"] == "after answers existed"


def test_every_change_is_named(tmp_path: Path) -> None:
    digest = declare(tmp_path, trained={"lora": {"seed": 42}})
    assert now(tmp_path, trained={"lora": {"seed": 42}}) == []
    (change,) = now(tmp_path, trained={"lora": {"seed": 42}}, primary=["nll"])
    assert change == "primary: ['rouge1', 'rouge2', 'rougeL', 'bertscore_f1'] was declared, ['nll'] is used"
    assert "margins: " in now(tmp_path, trained={"lora": {"seed": 42}}, margins=["rouge1=0.2"])[0]
    assert "rows: " in now(tmp_path, ["a", "b"], trained={"lora": {"seed": 42}})[0]
    assert now(tmp_path, trained={"lora": {"seed": 7}, "full": {"seed": 42}}) == [
        "full: trained after the plan, seed 42",
        "lora: seed 42 was declared, 7 is used",
    ]
    write_json(tmp_path / "baseline" / "generation.json", {"plan_hash": "another"})
    assert now(tmp_path, trained={"lora": {"seed": 42}}) == ["baseline: answered under another plan (another)"]
    write_json(tmp_path / "baseline" / "generation.json", {"plan_hash": digest})
    plan = read_json(tmp_path / analysis_plan.FILE)
    write_json(tmp_path / analysis_plan.FILE, plan | {"plan": plan["plan"] | {"safety_margin": 0.3}})
    changes = now(tmp_path, trained={"lora": {"seed": 42}})
    assert "safety_margin: 0.3 was declared, 0.05 is used" in changes
    assert "analysis_plan.json was edited after it was written" in changes


def test_a_study_without_a_plan_says_never(tmp_path: Path) -> None:
    kept = analysis_plan.compare(tmp_path, {}, [])
    assert kept == {"plan_hash": "", "declared": "never", "changes": []}


def test_answers_that_differ_between_arms_are_all_named(tmp_path: Path) -> None:
    for arm, tokens in (("baseline", 96), ("lora", 96), ("full", 128)):
        write_json(tmp_path / arm / "generation.json", {"settings": {"max_new_tokens": tokens, "do_sample": False}})
    found = analysis_plan.answers_now(tmp_path, ["baseline", "lora"])
    assert (found["max_new_tokens"], found["do_sample"], found["seeds"]) == (96, False, None)
    assert analysis_plan.answers_now(tmp_path, ["baseline", "lora", "full"])["max_new_tokens"] == [96, 128]


@pytest.mark.parametrize(
    ("low", "high", "direction", "expected"),
    [
        (0.001, 0.05, 1, "superior"),
        (-0.05, -0.001, -1, "superior"),
        (-0.01, 0.01, 1, "equivalent"),
        (-0.01, 0.05, 1, "non-inferior"),
        (-0.01, -0.005, 1, "equivalent"),
        (-0.03, -0.005, 1, "worse"),
        (0.03, 0.05, -1, "inferior"),
        (-0.05, 0.05, 1, "inconclusive"),
        (None, None, 1, "inconclusive"),
    ],
)
def test_the_interval_and_the_margin_decide(
    low: float | None, high: float | None, direction: int, expected: str
) -> None:
    assert quality(low, high, 0.02, direction) == expected


@pytest.mark.parametrize("written", ["rouge1", "rouge1=", "rouge1=-1", "rouge1=0", "rouge1=inf"])
def test_a_margin_that_is_none_is_refused(written: str) -> None:
    with pytest.raises(UserError, match="margins: "):
        read_margins([written])
