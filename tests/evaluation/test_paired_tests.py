"""Intervals, paired tests and Holm's correction against scipy, by simulation, by hand, and by their properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from medsft.evaluation.statistics.intervals import bootstrap_interval, summarise
from medsft.evaluation.statistics.paired_tests import compare_arms, holm, paired_comparisons, randomisation_test

RNG = np.random.default_rng(7)
SCORES = RNG.beta(2, 6, size=60)
OTHERS = np.clip(SCORES + RNG.normal(0.03, 0.1, size=60), 0, 1)
SINGLETONS = list(range(60))


def paired_comparison(before, after, groups, resamples, confidence, seed):
    (found,) = paired_comparisons({"": before}, {"": after}, groups, resamples, confidence, seed).values()
    return {name: found[name] for name in ("difference", "low", "high", "p")}


def test_interval_of_single_rows_is_scipys_percentile_bootstrap():
    ours = bootstrap_interval(SCORES.tolist(), SINGLETONS, 20_000, 0.9, seed=1)
    theirs = stats.bootstrap(
        (SCORES,), np.mean, n_resamples=20_000, confidence_level=0.9, method="percentile", rng=2
    ).confidence_interval
    assert ours == pytest.approx((SCORES.mean(), theirs.low, theirs.high), abs=0.002)


@pytest.mark.parametrize("shift", [0.0, 0.02, 0.05])
def test_p_value_of_single_rows_is_scipys_permutation_test(shift):
    differences = OTHERS - SCORES - 0.03 + shift
    ours = randomisation_test(differences.tolist(), SINGLETONS, 20_000, seed=1)
    theirs = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=20_000, rng=2
    ).pvalue
    assert ours == pytest.approx(theirs, abs=0.015)


def test_p_value_of_few_groups_approaches_the_exact_one():
    differences, groups = [0.3, 0.1, 0.2, 0.25, 0.4, -0.1], ["a", "a", "b", "c", "d", "d"]
    # group sums .4 .2 .25 .3: all of one sign, so 2 of the 16 flips reach the observed sum
    assert randomisation_test(differences, groups, 40_000, seed=0) == pytest.approx(2 / 16, abs=0.01)


def test_rows_of_a_group_move_together_so_copies_do_not_narrow_the_interval():
    once = bootstrap_interval(SCORES.tolist(), SINGLETONS, 4000, 0.95, seed=3)
    copied = bootstrap_interval(np.repeat(SCORES, 5).tolist(), np.repeat(SINGLETONS, 5).tolist(), 4000, 0.95, seed=3)
    as_if_independent = bootstrap_interval(np.repeat(SCORES, 5).tolist(), list(range(300)), 4000, 0.95, seed=3)
    assert copied == pytest.approx(once)
    assert as_if_independent[2] - as_if_independent[1] < 0.6 * (once[2] - once[1])


def test_coverage_is_near_the_nominal_level_with_clustered_rows():
    generator = np.random.default_rng(11)
    groups = np.repeat(np.arange(40), 3).tolist()
    covered = 0
    for trial in range(300):
        values = np.repeat(generator.normal(0.3, 0.1, size=40), 3) + generator.normal(0, 0.05, size=120)
        _, low, high = bootstrap_interval(values.tolist(), groups, 400, 0.95, seed=trial)
        covered += low <= 0.3 <= high
    assert 0.90 <= covered / 300 <= 0.98  # a percentile bootstrap of 40 groups falls a little short of 0.95


def test_false_positive_rate_is_the_level():
    generator = np.random.default_rng(12)
    groups = np.repeat(np.arange(20), 2).tolist()
    p_values = [
        randomisation_test(np.repeat(generator.normal(0, 1, 20), 2).tolist(), groups, 199, seed=i) for i in range(400)
    ]
    assert 0.02 <= np.mean(np.array(p_values) <= 0.05) <= 0.08


def test_one_group_has_a_point_for_an_interval_and_cannot_be_significant():
    assert bootstrap_interval([0.1, 0.3], ["a", "a"], 100, 0.95, seed=0) == pytest.approx((0.2, 0.2, 0.2))
    assert paired_comparison([0.1, 0.3], [0.2, 0.6], ["a", "a"], 100, 0.95, seed=0)["p"] == 1.0


def test_resampling_in_chunks_gives_the_same_numbers(monkeypatch):
    whole = paired_comparison(SCORES, OTHERS, SINGLETONS, 999, 0.95, seed=5)
    monkeypatch.setattr("medsft.evaluation.statistics.intervals.DRAWS_AT_ONCE", 60 * 8 * 10)
    # numpy hands out 8-bit draws in packs of four, so chunks of 8 * 60 continue the same stream
    assert paired_comparison(SCORES, OTHERS, SINGLETONS, 999, 0.95, seed=5) == pytest.approx(whole)


# Holm 1979 on four tests: .005*4, .01*3, .03*2, .04*1 made monotone
@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5, 0.6], [1.0, 1.0]),
        ([0.02], [0.02]),
        ([], []),
    ],
)
def test_holm_by_hand(p_values, adjusted):
    assert holm(p_values) == pytest.approx(adjusted)


@given(st.lists(st.floats(0.0001, 1), min_size=1, max_size=12))
def test_holm_never_lowers_keeps_the_order_and_is_at_most_bonferroni(p_values):
    adjusted = holm(p_values)
    assert all(p <= a <= min(1, len(p_values) * p) + 1e-12 for p, a in zip(p_values, adjusted, strict=True))
    assert sorted(adjusted) == [adjusted[i] for i in np.argsort(p_values, kind="stable")]


ROWS = st.lists(
    st.tuples(st.floats(0, 1, width=16), st.floats(0, 1, width=16), st.integers(0, 5)), min_size=1, max_size=25
)


@settings(deadline=None)
@given(ROWS, st.integers(0, 2**31))
def test_swapping_the_arms_mirrors_the_difference_and_keeps_p(rows, seed):
    one, other, groups = zip(*rows, strict=True)
    forth = paired_comparison(one, other, groups, 50, 0.95, seed)
    back = paired_comparison(other, one, groups, 50, 0.95, seed)
    assert (back["difference"], back["low"], back["high"]) == pytest.approx(
        (-forth["difference"], -forth["high"], -forth["low"]), abs=1e-9
    )
    assert back["p"] == forth["p"]
    assert 0 < forth["p"] <= 1
    assert forth["low"] <= forth["high"]


@settings(deadline=None)
@given(ROWS)
def test_identical_arms_differ_by_nothing(rows):
    values, _, groups = zip(*rows, strict=True)
    assert paired_comparison(values, values, groups, 50, 0.95, 0) == {"difference": 0, "low": 0, "high": 0, "p": 1}


@settings(deadline=None)
@given(ROWS, st.integers(0, 2**31))
def test_the_interval_is_reproducible_and_stays_within_the_data(rows, seed):
    values, _, groups = zip(*rows, strict=True)
    mean, low, high = bootstrap_interval(values, groups, 50, 0.9, seed)
    assert (mean, low, high) == bootstrap_interval(values, groups, 50, 0.9, seed)
    assert mean == pytest.approx(np.mean(values), abs=1e-9)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9


def per_example(values, ids):
    return [{"id": i, "group": f"g{i}", "rouge1": v, "rougeL": v / 2} for i, v in zip(ids, values, strict=True)]


def test_arms_are_compared_on_common_rows_by_id_and_corrected_together():
    arms = {
        "baseline": per_example(SCORES.tolist(), range(60)),
        "lora": list(reversed(per_example((SCORES + 0.2).tolist(), range(60)))),
        "full": per_example(OTHERS.tolist(), range(40, 100)),
    }
    rows = compare_arms(arms, "baseline", ["rouge1", "rougeL"], 999, 0.95, 0)
    assert [(row["arm"], row["metric"], row["n"]) for row in rows] == [
        ("lora", "rouge1", 60), ("lora", "rougeL", 60), ("full", "rouge1", 20), ("full", "rougeL", 20)
    ]  # fmt: skip
    assert rows[0]["difference"] == pytest.approx(0.2)
    assert rows[0]["p"] == 0.001
    assert [row["p_holm"] for row in rows] == pytest.approx(holm([row["p"] for row in rows]))
    assert rows[0]["p_holm"] == pytest.approx(0.004)


def test_nothing_is_compared_without_a_baseline():
    assert compare_arms({"lora": per_example([0.1], [1])}, "baseline", ["rouge1"], 99, 0.95, 0) == []


def test_summary_counts_rows_and_groups():
    summary = summarise({"rouge1": [0.1, 0.2, 0.6]}, ["a", "a", "b"], 100, 0.95, 0)
    assert (summary["n"], summary["groups"]) == (3, 2)
    assert summary["metrics"]["rouge1"]["mean"] == pytest.approx(0.3)
