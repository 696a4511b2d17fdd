"""The source study's facts and figures beside a run's own, from small files made by hand."""

import pytest

from medsft.source_study import facts, memory_claims, published_figure, published_scores

DATA = {
    "rows_read": 1200, "rows_kept": 1000, "splits": {"train": {"rows": 800}, "dev": {"rows": 100}}, "leaking": 0,
    "tokens": {"train": {"total": 123456}}, "truncated": {"answer": 3},
}  # fmt: skip
TRAIN = {
    "steps": 50, "rows_per_step": 16, "tokens_seen": 99000, "trainable_percent": 0.5, "wall_seconds": 61.0,
    "quantization": "nf4",
    "history": [{"step": step, "loss": 2 - step / 100, "eval_loss": 1.9 - step / 100} for step in range(0, 60, 10)],
    "settings": {"per_device_train_batch_size": 4, "learning_rate": 2e-4,
                 "lora_r": 16, "lora_alpha": 32, "lora_dropout": 0.1, "max_train_rows": 600},
    "comparable": {"loss_on": "answers", "end_of_turn_loss": False, "rows_seen": 800},
    "peak_memory": {"device_bytes": 0},
}  # fmt: skip
METRICS = {"rouge1": {"mean": 0.12, "low": 0.10, "high": 0.14}}
RESULTS = {
    "data": DATA,
    "arms": {"baseline": {"n": 40}, "lora": {"n": 40}, "qlora": {"n": 40}},
    "study_table": published_scores.study_table({"baseline": METRICS, "qlora": METRICS}),
}


def test_own_facts_are_read_from_the_runs_files():
    own = facts.own_facts(RESULTS, TRAIN, RESULTS["arms"]["qlora"])
    assert own.keys() == {fact.key for fact in facts.DATA + facts.SETUP}
    assert own["read"] == "1,200, 1,000 kept" and own["splits"] == "600 trained on, 100 to choose by"
    assert own["method"] == "QLoRA" and own["adapter"] == "16, 32, 0.1" and own["steps"] == "16, 50"
    assert own["loss_on"] == "answers, without the end of turn"
    assert own["loss"] == "2.000, 1.800, 1.700, 1.500"  # four of six, first and last among them
    full = facts.own_facts(RESULTS, TRAIN | {"trainable_percent": 100, "settings": {}, "comparable": {}}, {})
    assert full["method"] == "full" and full["adapter"] == full["rate"] == full["loss_on"] == full["test"] == "–"


def test_arms_that_agree_share_a_column():
    claims = [memory_claims.Claim("Table 4", "98 GB", "101 GB", "our reading")]
    data, setup, memory = facts.tables(RESULTS, {"qlora": TRAIN, "lora": TRAIN | {"quantization": None}}, claims)
    assert data.heads[-1] == "ours: all arms"
    assert setup.heads[-2:] == ["ours: qlora", "ours: lora"]  # the methods differ
    assert memory.rows == [["Table 4", "98 GB", "101 GB", "our reading"]]
    assert facts.tables(RESULTS, {}, claims)[0].rows == []


def test_published_scores_are_recomputed_from_their_counts():
    for row in published_scores.TABLE_5:
        for printed, counts in zip((row.baseline, row.fine_tuned), row.counts or (), strict=False):
            assert counts.f_measure() == pytest.approx(printed, abs=5e-5)
    rouge, *_, bertscore = RESULTS["study_table"]
    assert rouge["ours"]["qlora"] == METRICS["rouge1"] and rouge["recomputed"][0]["hits"] == 6
    assert bertscore["recomputed"] is None and bertscore["ours"] == {}


def test_the_studys_charts_hold_its_points_and_ours():
    looks = {arm: {"color": "#000000", "marker": "o", "linestyle": "-", "label": arm} for arm in RESULTS["arms"]}
    upper, lower = published_figure.figure(RESULTS, {"qlora": TRAIN}, looks).axes
    published, _, ours = upper.get_lines()
    assert list(published.get_ydata()) == [training for _, training, _ in facts.LOSSES]
    assert list(ours.get_xdata()) == [0, 20, 40, 60, 80, 100]
    assert [bar.get_height() for bar in lower.containers[0]] == [row.baseline for row in published_scores.TABLE_5]
    assert len(lower.get_xticklabels()) == 4
