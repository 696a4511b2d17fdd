"""Seeds, slices, power, shares and the guardrail: by simulation, against scipy, and on a study with a known answer."""

import numpy as np
import pytest
from scipy import stats

from medsft.evaluation import slices
from medsft.evaluation.metrics import safety
from medsft.evaluation.statistics import intervals, paired_tests, power, proportions, training_seeds
from medsft.source_study import published_scores


def test_intervals_cover_the_truth_in_a_thousand_studies():
    """Grouped, skewed scores as ROUGE's: 100 groups of one to three rows each, true mean 0.25."""
    generator = np.random.default_rng(0)
    covered = 0
    for trial in range(1000):
        sizes = generator.integers(1, 4, 100)
        groups = np.repeat(np.arange(100), sizes)
        level = generator.beta(5, 15, 100)
        values = np.clip(np.repeat(level, sizes) + generator.normal(0, 0.05, len(groups)), -1, 2)
        _, low, high = intervals.bootstrap_interval(values.tolist(), groups.tolist(), 500, 0.95, trial)
        covered += low <= 0.25 <= high
    assert 0.93 <= covered / 1000 <= 0.97


def test_difference_interval_is_scipys_paired_bootstrap():
    generator = np.random.default_rng(3)
    before = generator.beta(2, 6, 80)
    after = before + generator.normal(0.02, 0.08, 80)
    columns = {"": before.tolist()}, {"": after.tolist()}
    ours = paired_tests.paired_comparisons(*columns, [*range(80)], 20_000, 0.95, 1)[""]
    theirs = stats.bootstrap(
        (before, after), lambda a, b, axis: np.mean(b - a, axis=axis), paired=True, n_resamples=20_000,
        method="percentile", rng=2,
    ).confidence_interval  # fmt: skip
    assert (ours["low"], ours["high"]) == pytest.approx((theirs.low, theirs.high), abs=0.001)


def test_power_is_what_it_promises():
    """With the number of groups that is needed, four of five studies see the effect."""
    needed = power.needed_groups(0.3, 0.05)
    assert needed == 88  # (1.960 + 0.842)^2 / 0.3^2 = 87.2
    generator = np.random.default_rng(4)
    found = [stats.ttest_1samp(generator.normal(0.3, 1, needed), 0).pvalue < 0.05 for _ in range(2000)]
    assert 0.76 < np.mean(found) < 0.83
    assert power.needed_groups(None, 0.05) is None


def arm(effect, seed, rows=90):
    noise = np.random.default_rng([seed, 1]).normal(0, 0.02, rows)
    base = np.random.default_rng(0).beta(4, 12, rows)
    return [
        {"id": i, "group": f"g{i // 2}", "rouge1": float(b + effect + e), "red_flag_recall": None}
        for i, (b, e) in enumerate(zip(base, noise, strict=True))
    ]


def test_seeds_that_differ_widen_the_interval_beyond_any_one_seeds():
    arms = {"baseline": arm(0, 1), "lora": arm(0.05, 2), "lora_seed1": arm(0.01, 3), "lora_seed2": arm(0.09, 4)}
    arms |= {"full": arm(0.02, 5)}
    (found,) = training_seeds.compare_methods(arms, "baseline", ["rouge1"], 2000, 0.95, 0)
    assert (found["method"], found["seeds"], found["n"]) == ("lora", 3, 90)
    assert found["difference"] == pytest.approx(0.05, abs=0.01)
    assert found["spread"] == pytest.approx(0.04, abs=0.01)
    assert set(found["by_arm"]) == {"lora", "lora_seed1", "lora_seed2"}
    one = paired_tests.compare_arms(arms, "baseline", ["rouge1"], 2000, 0.95, 0)[0]
    assert found["high"] - found["low"] > 3 * (one["high"] - one["low"])
    assert found["low"] < found["difference"] < found["high"]


def test_rows_that_a_metric_is_not_defined_for_are_left_out_of_every_seed():
    first, second = [0.1, None, 0.3, 0.4], [0.3, 0.9, None, 0.8]
    found = training_seeds.over_seeds({"1": first, "2": second}, ["a", "b", "c", "d"], 300, 0.95, 0)
    assert (found["n"], found["by_seed"]) == (2, {"1": pytest.approx(0.25), "2": pytest.approx(0.55)})
    assert found["mean"] == pytest.approx(0.4)
    assert training_seeds.over_seeds({"1": [None], "2": [0.5]}, ["a"], 300, 0.95, 0) is None
    arms = {name: arm(0, number) for number, name in enumerate(("baseline", "lora", "lora_seed1"))}
    found = training_seeds.compare_methods(arms, "baseline", ["rouge1", "red_flag_recall"], 300, 0.95, 0)
    assert [row["metric"] for row in found] == ["rouge1"]  # no emergency in these rows


def test_hierarchical_intervals_cover_with_ten_seeds():
    generator = np.random.default_rng(5)
    covered = 0
    for trial in range(300):
        true = generator.normal(0, 0.05, (10, 1)) + generator.normal(0, 0.1, (1, 60))
        means = training_seeds.hierarchical_means(true, np.ones(60), 400, trial)
        low, high = np.quantile(means, [0.025, 0.975])
        covered += low <= 0 <= high
    assert 0.88 <= covered / 300 <= 0.98  # ten seeds still fall a little short


def test_slices_know_where_the_effect_is():
    rows = [
        {"id": i, "source": "a" if i < 45 else "b", "prompt": "heart " * (i % 30 + 1) if i % 2 else "skin rash"}
        for i in range(90)
    ]
    better = [{**row, "rouge1": row["rouge1"] + (0.1 if row["id"] < 45 else 0)} for row in arm(0, 1)]
    found = slices.compare_slices({"baseline": arm(0, 1), "lora": better}, "baseline", rows, ["rouge1"], 300, 0.95, 0)
    by = {(row["by"], row["slice"]): row for row in found}
    assert by["source", "a"]["difference"] == pytest.approx(0.1)
    assert by["source", "b"]["difference"] == pytest.approx(0)
    assert {name for kind, name in by if kind == "specialty"} == {"cardiology", "dermatology"}
    assert all(row["n"] >= 10 for row in found)


def test_an_arm_made_by_degrading_another_is_found_with_its_size():
    """Every third answer's score is halved: the statistics recover direction, size and who it was."""
    base = arm(0, 1)
    worse = [{**row, "rouge1": row["rouge1"] / (2 if row["id"] % 3 == 0 else 1)} for row in base]
    true = np.mean([w["rouge1"] - b["rouge1"] for w, b in zip(worse, base, strict=True)])
    same = [dict(row) for row in base]
    rows = paired_tests.compare_arms(
        {"baseline": base, "degraded": worse, "same": same}, "baseline", ["rouge1"], 4999, 0.95, 0
    )
    degraded, equal = rows
    assert degraded["difference"] == pytest.approx(true)
    assert degraded["high"] < 0
    assert degraded["p_holm"] < 0.001
    assert (equal["difference"], equal["p"], equal["needed_groups"]) == (0, 1, None)


@pytest.mark.parametrize(("hits", "n"), [(0, 13), (6, 13), (13, 13), (81, 263)])
def test_wilson_is_scipys(hits, n):
    theirs = stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert proportions.wilson(hits, n, 0.95) == pytest.approx((theirs.low, theirs.high))


def test_paired_shares_cover_and_keep_their_width_where_all_agree():
    generator = np.random.default_rng(6)
    covered = 0
    for _ in range(1000):
        first = generator.random(40) < 0.6
        second = np.where(generator.random(40) < 0.3, generator.random(40) < 0.4, first)
        found = proportions.paired_shares(first.astype(float).tolist(), second.astype(float).tolist(), 0.95)
        covered += found["low"] <= -0.06 <= found["high"]
    assert 0.93 <= covered / 1000 <= 0.985
    agree = proportions.paired_shares([1.0] * 5, [1.0] * 5, 0.95)
    assert agree["difference"] == 0
    assert agree["low"] < -0.3


@pytest.mark.parametrize(
    ("before", "after", "n", "verdict"),
    [(1, 1, 400, "kept"), (1, 1, 6, "not shown"), (1, 0, 40, "broken"), (0, 1, 40, "kept")],
)
def test_the_guardrail_needs_enough_emergencies(before, after, n, verdict):
    rows = [[{"id": i, "red_flag_recall": float(value)} for i in range(n)] for value in (before, after)]
    assert safety.guardrail(*rows, 0.05, 0.95)["verdict"] == verdict
    assert safety.guardrail(arm(0, 1), arm(0, 1), 0.05, 0.95) is None


def test_the_published_numbers_follow_from_their_counts_and_show_nothing():
    for row in published_scores.study_table({}):
        if row["recomputed"] is None:
            continue
        base, tuned = row["recomputed"]
        assert base["mean"] == pytest.approx(row["published_baseline"], abs=5e-5)
        assert tuned["mean"] == pytest.approx(row["published_finetuned"], abs=5e-5)
        assert base["low"] < tuned["mean"] < base["high"]  # each lies within the other's interval
        assert tuned["low"] < base["mean"] < tuned["high"]
