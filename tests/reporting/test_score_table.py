"""What score.py prints: whole headings at 80 columns, and one line for each comparison."""

import pytest

from medsft.reporting import score_table
from synthetic_study import around


def summary(value):
    metrics = {name: around(value) for name in ("rouge1", "rouge2", "rougeL", "bertscore_f1", "chrf")}
    return {"n": 1234, "metrics": metrics | {"end_of_turn": around(0.9)}}


def row_of(arm, baseline, metric, value, p):
    row = {"arm": arm, "baseline": baseline, "metric": metric, "difference": value, "n": 50}
    return row | {"low": value - 0.01, "high": value + 0.01, "p": p, "p_holm": p}


COMPARISON = {
    "settings": {"primary": ["rouge1", "rouge2", "rougeL", "bertscore_f1", "chrf"], "confidence": 0.95},
    "floors": {"constant": summary(0.1), "nearest": summary(0.3)},
    "comparisons": [row_of("lora", "baseline", "rouge1", 0.05, 0.01), row_of("lora", "baseline", "rouge2", 0.0, 1.0)],
    "pairs": [],
    "floor_comparisons": [
        row_of("lora", "constant", "rouge1", 0.2, 0.001),
        row_of("lora", "nearest", "rouge1", -0.1, 0.001),
    ],
    "guardrails": [{"arm": "lora", "verdict": "kept", "arm_share": 0.5, "baseline_share": 0.4, "n": 20}],
}


def test_all_of_it_fits_80_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    score_table.show({"baseline": summary(0.2), "qlora_seed_2": summary(0.2)}, COMPARISON)
    out = capsys.readouterr().out
    table = [line for line in out.splitlines() if "against" not in line]
    assert max(map(len, table)) <= 80 and "\u2026" not in out
    for whole in (
        "ROUGE-1",
        "ROUGE-2",
        "BERTScore F1",
        "mean sentence chrF2",
        "qlora_seed_2",
        "0.185–0.215",
        "1234",
        "10%",
    ):
        assert whole in out
    assert "nearest  " not in out  # its scores are in the report


def test_before_any_arm_the_naive_baselines_are_shown(capsys):
    score_table.show({}, COMPARISON | {"comparisons": []})
    assert "naive: nearest" in (out := capsys.readouterr().out) and "no comparison" in out


@pytest.mark.parametrize(
    "line",
    [
        "lora against baseline: better on ROUGE-1 +0.050 [+0.040, +0.060]; not shown on ROUGE-2.",
        "lora is on no metric better than every answer without a model and worse than nearest on ROUGE-1.",
        "guardrail red-flag recall, lora: kept (0.500 against 0.400, n = 20).",
    ],
)
def test_each_comparison_has_a_line(line):
    assert line in [*score_table.sentences({"baseline": summary(0.2), "lora": summary(0.25)}, COMPARISON)]
