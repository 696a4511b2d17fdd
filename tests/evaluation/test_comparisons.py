"""What comparison.json says of arms, on scores and messages whose answers are known."""

from pathlib import Path

import pytest

from medsft.evaluation import comparisons, scoring
from medsft.files import write_jsonl

SETTINGS = {
    "primary": ["rouge1"],
    "resamples": 200,
    "confidence": 0.95,
    "seed": 0,
    "safety_margin": 0.05,
    "margins": {"rouge1": 0.02},
}


def question(number: int, prompt: str, reference: str = "Rest.") -> dict:
    turns = [{"role": "user", "content": prompt}]
    row = {"id": number, "group": f"g{number}", "source": "s", "prompt": prompt, "messages": turns}
    return row | {"reference": reference}


def scored(rouge: float, recall: float) -> list[dict]:
    return [
        {"id": i, "group": f"g{i}", "rouge1": rouge + i / 100, "bleu": rouge * 100, "red_flag_recall": recall}
        for i in range(20)
    ]


def test_declared_metrics_are_tested_and_the_others_explored(tmp_path: Path) -> None:
    arms = {"baseline": scored(0.2, 1.0), "lora": scored(0.3, 0.0)}
    for arm, rows in arms.items():
        write_jsonl(tmp_path / arm / scoring.PER_EXAMPLE, rows)
        recited = [{"id": 1, "group": "g1", "recited": 0.0, "matched": 4.0 if arm == "lora" else 1.0, "agreement": 0.5}]
        write_jsonl(tmp_path / arm / "memorization.jsonl", recited)
    found = comparisons.compare(tmp_path, [*arms], [question(i, "a sore toe") for i in range(20)], SETTINGS)
    (tested,) = found["comparisons"]
    assert (tested["arm"], tested["metric"], tested["n"]) == ("lora", "rouge1", 20)
    assert tested["difference"] == pytest.approx(0.1) and tested["p_holm"] < 0.05
    assert (tested["margin"], tested["quality"]) == (0.02, "superior")
    assert found["pairs"] == found["floor_comparisons"] == []
    assert {row["metric"] for row in found["explored"]} == {"bleu", "red_flag_recall"}
    assert all("p" not in row for row in found["explored"])
    assert {row["metric"]: row["difference"] for row in found["memorization"]} == {
        "recited": 0, "matched": 3, "agreement": 0
    }  # fmt: skip
    (guardrail,) = found["guardrails"]
    assert (guardrail["arm"], guardrail["metric"], guardrail["verdict"]) == ("lora", "red_flag_recall", "broken")
    assert found["faults"] == found["single_cases"] == found["seeds"] == []


def test_emergencies_are_counted_by_words_and_by_doctor() -> None:
    rows = [
        question(1, "chest pain and sweating"),
        question(2, "a sore toe", "Call an ambulance now."),
        question(3, "a sore toe"),
        question(4, "my notes say:\nDoctor: chest pain"),
    ]
    assert comparisons.count_emergencies(rows) == {
        "n": 4, "emergencies": 3, "by_rule": 2, "by_doctor": 1
    }  # fmt: skip


def test_arms_are_paired_with_each_other_and_with_prompted_baselines_but_not_with_their_own_seeds() -> None:
    arms = ["baseline", "qlora", "lora", "lora_seed1", "full", "baseline_prompted"]
    trained = [("full", "lora"), ("full", "qlora"), ("lora", "qlora")]
    prompted = [("baseline_prompted", arm) for arm in ("full", "lora", "qlora")]
    assert comparisons.arm_pairs(arms) == trained + prompted
    assert comparisons.arm_pairs(["baseline", "sound", "fault_padding", "paper"]) == []


def test_arms_are_tested_against_every_naive_baseline_and_only_compared_with_retrieval(tmp_path: Path) -> None:
    arms = {"baseline": scored(0.2, 1.0), "lora": scored(0.3, 0.0)}
    for arm, rows in arms.items():
        write_jsonl(tmp_path / arm / scoring.PER_EXAMPLE, rows)
    others = {"constant": 0.1, "nearest": 0.35, "nearest_full_corpus": 0.4, scoring.RANDOM_PAIRS: 0.1, "doctors": 0.5}
    rows = [{"system": name, **row} for name, value in others.items() for row in scored(value, 0.0)]
    write_jsonl(tmp_path / scoring.FLOORS_PER_EXAMPLE, rows)
    found = comparisons.compare_floors(tmp_path, arms, SETTINGS)
    tested = {(row["arm"], row["baseline"]): row for row in found["floor_comparisons"]}
    assert set(tested) == {(arm, naive) for arm in arms for naive in ("constant", "nearest")}
    assert tested["lora", "nearest"]["difference"] == pytest.approx(-0.05)
    assert tested["lora", "nearest"]["p_holm"] >= tested["lora", "nearest"]["p"]
    assert [row["difference"] for row in found["retrieval_comparisons"]] == pytest.approx([-0.2, -0.1])
    assert all("p" not in row for row in found["retrieval_comparisons"])
