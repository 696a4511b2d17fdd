"""Intervals, paired comparisons and Holm's correction: the textbook's loop, simulation, by hand, and properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsft.evaluation.statistics import intervals
from medsft.evaluation.statistics.intervals import LEAST_GROUPS, bootstrap_interval, find, summarise
from medsft.evaluation.statistics.paired_tests import (
    compare_arms,
    compare_pairs,
    holm,
    paired_comparisons,
)

RNG = np.random.default_rng(7)
SCORES = RNG.beta(2, 6, size=60)
OTHERS = np.clip(SCORES + RNG.normal(0.03, 0.1, size=60), 0, 1)
SINGLETONS = list(range(60))


def paired_comparison(before, after, groups, resamples, confidence, seed):
    (found,) = paired_comparisons({"": before}, {"": after}, groups, resamples, confidence, seed).values()
    return {name: found[name] for name in ("difference", "low", "high", "p")}


def plain_bootstrap_t(values, resamples, confidence, seed):
    """The textbook's loop over single rows (Efron and Tibshirani 1993, algorithm 12.1)."""
    generator, n = np.random.default_rng(seed), len(values)
    statistics = []
    for _ in range(resamples):
        drawn = values[generator.integers(0, n, n)]
        statistics.append((drawn.mean() - values.mean()) / (drawn.std(ddof=1) / np.sqrt(n)))
    high, low = np.quantile(statistics, [(1 - confidence) / 2, (1 + confidence) / 2])
    error = values.std(ddof=1) / np.sqrt(n)
    return values.mean(), values.mean() - low * error, values.mean() - high * error


def test_interval_of_single_rows_is_the_textbooks_bootstrap_t():
    ours = bootstrap_interval(SCORES.tolist(), SINGLETONS, 20_000, 0.9, seed=1)
    assert ours == pytest.approx(plain_bootstrap_t(SCORES, 5_000, 0.9, seed=2), abs=0.002)


def test_rows_of_a_group_count_together_so_copies_do_not_narrow_the_interval():
    once = bootstrap_interval(SCORES.tolist(), SINGLETONS, 4000, 0.95, seed=3)
    copied = bootstrap_interval(np.repeat(SCORES, 5).tolist(), np.repeat(SINGLETONS, 5).tolist(), 4000, 0.95, seed=3)
    as_if_independent = bootstrap_interval(np.repeat(SCORES, 5).tolist(), list(range(300)), 4000, 0.95, seed=3)
    assert copied == pytest.approx(once)
    assert as_if_independent[2] - as_if_independent[1] < 0.6 * (once[2] - once[1])


def skewed_studies(generator, groups, studies):
    """Zero-inflated, skewed scores in groups of unequal size, all with one layout: columns, groups, true mean."""
    sizes = np.maximum(1, np.round(generator.lognormal(0.7, 0.8, groups))).astype(int)
    names, columns = np.repeat(np.arange(groups), sizes), {}
    for number in range(studies):
        level = generator.exponential(1.0, groups) * (generator.random(groups) > 0.4)
        columns[str(number)] = (np.repeat(level, sizes) * generator.uniform(0.5, 1.5, len(names))).tolist()
    return columns, names.tolist(), 0.6


@pytest.mark.parametrize("groups", [20, 44])
def test_intervals_cover_and_tests_keep_their_level_with_skewed_unequal_groups(groups):
    """Forty layouts of groups with 25 studies each; the whole simulation is tests/bench/statistics.py."""
    generator, covered, rejected = np.random.default_rng(groups), [], []
    for layout in range(40):
        columns, names, true = skewed_studies(generator, groups, 25)
        found = find(columns, names, 399, 0.95, layout).values()
        covered += [row.low <= true <= row.high for row in found]
        shifted = {name: [value - true for value in values] for name, values in columns.items()}
        rejected += [row.p < 0.05 for row in find(shifted, names, 399, 0.95, layout).values()]
    assert 0.925 <= np.mean(covered) <= 0.975  # 0.93 to 0.97, and 0.005 for a thousand studies
    assert 0.025 <= np.mean(rejected) <= 0.075


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**31), st.integers(LEAST_GROUPS, 40), st.booleans(), st.floats(-0.5, 0.5))
def test_interval_and_p_never_disagree(seed, groups, binary, shift):
    generator = np.random.default_rng(seed)
    before, after = generator.random((2, groups))
    after = after + shift
    if binary:
        before, after = (before > 0.5).astype(float), (after > 0.5).astype(float)
    found = paired_comparison(before.tolist(), after.tolist(), list(range(groups)), 199, 0.95, 0)
    if found["low"] is not None:
        assert (found["p"] < 0.05) == (not found["low"] <= 0 <= found["high"])


def test_below_the_least_number_of_groups_there_is_no_interval_and_a_reason():
    columns = {"rouge1": [0.1, 0.3] * 2, "loop": [0.0, 1.0] * 2}
    found = intervals.intervals(columns, ["a", "a", "b", "b"], 999, 0.95, 0)
    assert found["rouge1"] == {"mean": pytest.approx(0.2), "low": None, "high": None} | {
        "no_interval": f"2 groups, an interval takes {LEAST_GROUPS}"
    }
    assert found["loop"]["low"] is None
    assert "1 group," in intervals.intervals({"x": [0.1]}, ["a"], 999, 0.95, 0)["x"]["no_interval"]
    tested = paired_comparison([0.1, 0.3], [0.2, 0.6], ["a", "a"], 100, 0.95, seed=0)
    assert (tested["low"], tested["p"]) == (None, 1.0)


def test_a_metric_that_differs_in_two_groups_only_has_no_interval():
    values = [0.0] * 42 + [5.0, 9.0]
    (found,) = find({"": values}, list(range(44)), 999, 0.95, 0).values()
    assert (found.low, found.high, found.p) == (None, None, 1.0)
    assert found.reason == "too few groups differ from the others"


def test_shares_have_wilsons_interval_everywhere():
    """A share of 1 of 44 has as wide an interval as Wilson says, with Student's quantile for 44 groups."""
    from scipy import stats

    for hits in (0, 1, 22, 44):
        found = find({"": [1.0] * hits + [0.0] * (44 - hits)}, list(range(44)), 999, 0.95, 0)[""]
        z = stats.t.ppf(0.975, 43)
        middle, half = (
            (hits + z * z / 2) / (44 + z * z),
            z * np.sqrt(hits * (44 - hits) / 44 + z * z / 4) / (44 + z * z),
        )
        low, high = max(0.0, middle - half), min(1.0, middle + half)
        assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)


def test_rows_that_are_alike_within_groups_widen_a_shares_interval():
    groups = np.repeat(np.arange(22), 2).tolist()
    alike = find({"": np.repeat(np.arange(22) < 5, 2).astype(float).tolist()}, groups, 999, 0.95, 0)[""]
    alone = find({"": (np.arange(44) % 44 < 10).astype(float).tolist()}, list(range(44)), 999, 0.95, 0)[""]
    assert alike.mean == alone.mean
    assert alike.high - alike.low > 1.25 * (alone.high - alone.low)


def test_resampling_in_chunks_gives_the_same_numbers(monkeypatch):
    whole = paired_comparison(SCORES, OTHERS, SINGLETONS, 999, 0.95, seed=5)
    monkeypatch.setattr("medsft.evaluation.statistics.studentised.DRAWS_AT_ONCE", 60 * 8 * 10)
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
    st.tuples(st.floats(0, 1, width=16), st.floats(0, 1, width=16), st.integers(0, 30)), min_size=1, max_size=40
)


@settings(deadline=None)
@given(ROWS, st.integers(0, 2**31))
def test_swapping_the_arms_mirrors_the_difference_and_keeps_p(rows, seed):
    one, other, groups = zip(*rows, strict=True)
    forth = paired_comparison(one, other, groups, 50, 0.95, seed)
    back = paired_comparison(other, one, groups, 50, 0.95, seed)
    assert back["difference"] == pytest.approx(-forth["difference"], abs=1e-9)
    assert (back["low"] is None) == (forth["low"] is None)
    if forth["low"] is not None:
        assert (back["low"], back["high"]) == pytest.approx((-forth["high"], -forth["low"]), abs=1e-9)
        assert forth["low"] <= forth["difference"] + 1e-12 and forth["difference"] <= forth["high"] + 1e-12
    assert back["p"] == pytest.approx(forth["p"])
    assert 0 < forth["p"] <= 1


def test_identical_arms_differ_by_nothing():
    same = paired_comparison(SCORES, SCORES, SINGLETONS, 199, 0.95, 0)
    assert same == {"difference": 0, "low": 0, "high": 0, "p": 1}
    loops = [0.0] * 80
    same = paired_comparison(loops, loops, list(range(80)), 199, 0.95, 0)
    assert (same["difference"], same["p"]) == (0, 1)
    assert same["low"] == pytest.approx(-same["high"]) and 0.04 < same["high"] < 0.06  # 80 that agree are not proof


def test_the_same_seed_gives_the_same_interval():
    assert bootstrap_interval(SCORES, SINGLETONS, 99, 0.9, 4) == bootstrap_interval(SCORES, SINGLETONS, 99, 0.9, 4)
    assert bootstrap_interval(SCORES, SINGLETONS, 99, 0.9, 4) != bootstrap_interval(SCORES, SINGLETONS, 99, 0.9, 5)


def per_example(values, ids):
    return [{"id": i, "group": f"g{i}", "rouge1": v, "rougeL": v / 2} for i, v in zip(ids, values, strict=True)]


def test_arms_are_compared_on_common_rows_by_id_and_corrected_together():
    arms = {
        "baseline": per_example(SCORES.tolist(), range(60)),
        "lora": list(reversed(per_example((SCORES + 0.2 + RNG.normal(0, 0.01, 60)).tolist(), range(60)))),
        "full": per_example(OTHERS.tolist(), range(40, 100)),
    }
    rows = compare_arms(arms, "baseline", ["rouge1", "rougeL"], 999, 0.95, 0)
    assert [(row["arm"], row["metric"], row["n"]) for row in rows] == [
        ("lora", "rouge1", 60), ("lora", "rougeL", 60), ("full", "rouge1", 20), ("full", "rougeL", 20)
    ]  # fmt: skip
    assert rows[0]["difference"] == pytest.approx(0.2, abs=0.01)
    assert rows[0]["p"] == 0.002
    assert [row["p_holm"] for row in rows] == pytest.approx(holm([row["p"] for row in rows]))
    (pair,) = compare_pairs(arms, [("lora", "full")], ["rouge1"], 999, 0.95, 0)
    assert (pair["baseline"], pair["arm"], pair["n"]) == ("lora", "full", 20)


def test_nothing_is_compared_without_a_baseline():
    assert compare_arms({"lora": per_example([0.1], [1])}, "baseline", ["rouge1"], 99, 0.95, 0) == []


def test_summary_counts_rows_and_groups():
    summary = summarise({"rouge1": [0.1, 0.2, 0.6]}, ["a", "a", "b"], 100, 0.95, 0)
    assert (summary["n"], summary["groups"]) == (3, 2)
    assert summary["metrics"]["rouge1"]["mean"] == pytest.approx(0.3)
