"""Seeds, slices, power, shares and the guardrail: by simulation, against scipy, and on a study with a known answer."""

import numpy as np
import pytest
from scipy import stats

from medsft.evaluation import slices
from medsft.evaluation.metrics import safety
from medsft.evaluation.statistics import paired_tests, power, proportions, training_seeds
from medsft.source_study import published_scores


def test_power_is_what_it_promises():
    """With the number of groups that is needed, four of five studies see the effect."""
    needed = power.needed_groups(0.3, 0.05)
    assert needed == 88  # (1.960 + 0.842)^2 / 0.3^2 = 87.2
    generator = np.random.default_rng(4)
    found = [stats.ttest_1samp(generator.normal(0.3, 1, needed), 0).pvalue < 0.05 for _ in range(2000)]
    assert 0.76 < np.mean(found) < 0.83
    assert power.needed_groups(None, 0.05) is None


def test_what_so_many_groups_can_show_is_seen_in_four_of_five_studies():
    """The difference is computed from each study's own spread."""
    generator = np.random.default_rng(5)
    sizes = [power.detectable(generator.normal(0, 2, 60), 0.05) for _ in range(200)]
    effect = float(np.mean(sizes))
    assert effect == pytest.approx(2.802 * 2 / 60**0.5, rel=0.02)
    found = [stats.ttest_1samp(generator.normal(effect, 2, 60), 0).pvalue < 0.05 for _ in range(2000)]
    assert 0.76 < np.mean(found) < 0.83
    assert power.detectable(np.array([0.1]), 0.05) is None


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
    (found,) = training_seeds.compare_methods(arms, "baseline", ["rouge1"], 0.95)
    assert (found["method"], found["seeds"], found["n"]) == ("lora", 3, 90)
    assert found["difference"] == pytest.approx(0.05, abs=0.01)
    assert found["spread"] == pytest.approx(0.04, abs=0.01)
    assert set(found["by_arm"]) == {"lora", "lora_seed1", "lora_seed2"}
    assert found["p_holm"] == found["p"]
    one = paired_tests.compare_arms(arms, "baseline", ["rouge1"], 2000, 0.95, 0)[0]
    assert found["high"] - found["low"] > 3 * (one["high"] - one["low"])
    assert found["low"] < found["difference"] < found["high"]


def test_rows_that_a_metric_is_not_defined_for_are_left_out_of_every_seed():
    first, second = [0.1, None, *[0.3] * 12], [0.3, 0.9, *[0.6] * 11, None]
    found, _ = training_seeds.over_seeds({"1": first, "2": second}, list(range(14)), 0.95)
    assert (found["n"], found["by_seed"]) == (12, {"1": pytest.approx(3.4 / 12), "2": pytest.approx(6.9 / 12)})
    assert found["mean"] == pytest.approx(10.3 / 24)
    assert training_seeds.over_seeds({"1": [None], "2": [0.5]}, ["a"], 0.95) is None
    few, p = training_seeds.over_seeds({"1": [0.1, 0.2], "2": [0.5, 0.6]}, ["a", "b"], 0.95)
    assert (few["low"], few["no_interval"], p) == (None, "2 seeds and 2 groups; it takes 2 and 10", 1)
    arms = {name: arm(0, number) for number, name in enumerate(("baseline", "lora", "lora_seed1"))}
    found = training_seeds.compare_methods(arms, "baseline", ["rouge1", "red_flag_recall"], 0.95)
    assert [row["metric"] for row in found] == ["rouge1"]  # no emergency in these rows


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("spread", [0.0, 1.0, 10.0])  # of the seeds, in standard errors of the groups
def test_intervals_over_seeds_cover_and_agree_with_their_p(seeds, spread):
    generator, covered = np.random.default_rng([seeds, int(spread)]), 0
    for _ in range(400):
        rows = generator.gamma(2, 1, (44, 1)) - 2 + spread * np.sqrt(2 / 44) * generator.normal(size=(1, seeds))
        rows = rows + 0.5 * generator.normal(size=(44, seeds))
        found = training_seeds.mean_over_seeds(rows, np.ones(44), 0.95)
        assert (found.p < 0.05) == (not found.low <= 0 <= found.high)
        covered += found.low <= 0 <= found.high
    assert covered / 400 >= 0.925  # 0.95, and two standard errors of 400 studies


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


def score_interval_by_search(gains, losses, n):
    """Tango's interval by its definition: the differences whose constrained likelihood gives |z| < 1.96."""
    from scipy import optimize

    def statistic(delta):
        def nll(down):
            up, rest = down + delta, 1 - 2 * down - delta
            terms = ((gains, up), (losses, down), (n - gains - losses, rest))
            return -sum(count * np.log(max(share, 1e-300)) for count, share in terms if count)

        down = optimize.minimize_scalar(
            nll, bounds=(max(0, -delta), (1 - delta) / 2), method="bounded", options={"xatol": 1e-10}
        ).x
        return (gains - losses - n * delta) / np.sqrt(n * (2 * down + delta * (1 - delta)))

    z, middle = stats.norm.ppf(0.975), (gains - losses) / n
    low = optimize.brentq(lambda d: statistic(d) - z, -0.9, middle - 1e-6)
    return low, optimize.brentq(lambda d: statistic(d) + z, middle + 1e-6, 0.9)


@pytest.mark.parametrize(("gains", "losses"), [(15, 5), (9, 1), (20, 20)])
def test_paired_share_is_tangos_interval_by_its_definition(gains, losses):
    n = 10_000  # Student's quantile is the normal one
    sides = np.zeros((2, n))
    sides[0, : gains * 100], sides[1, gains * 100 : (gains + losses) * 100] = 1, 1
    found = proportions.clustered_difference(*sides, np.ones(n), 0.95)
    expected = score_interval_by_search(gains * 100, losses * 100, n)
    assert (found.low, found.high) == pytest.approx(expected, abs=2e-5)
    b, c = gains * 100, losses * 100
    assert found.p == pytest.approx(stats.chi2.sf((b - c) ** 2 / (b + c), 1), rel=0.05, abs=1e-12)  # McNemar


def test_paired_shares_over_groups_keep_their_level_and_cover():
    generator, covered, rejected = np.random.default_rng(8), 0, 0
    for _ in range(600):
        sizes = np.maximum(1, np.round(generator.lognormal(0.7, 0.8, 44)))
        level = generator.beta(2, 5, 44)
        gains = generator.binomial(sizes.astype(int), level * 0.5)
        losses = generator.binomial(sizes.astype(int) - gains, level * 0.5 / (1 - level * 0.5))
        found = proportions.clustered_difference(gains.astype(float), losses.astype(float), sizes, 0.95)
        covered, rejected = covered + (found.low <= 0 <= found.high), rejected + (found.p < 0.05)
    assert 0.92 <= covered / 600 <= 0.98 and covered + rejected == 600


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
    [(1, 1, 400, "kept"), (1, 1, 6, "not shown"), (1, 0, 40, "broken"), (0, 1, 40, "vacuous"), (0, 0, 80, "vacuous")],
)
def test_the_guardrail_needs_enough_emergencies(before, after, n, verdict):
    rows = [[{"id": i, "red_flag_recall": float(value)} for i in range(n)] for value in (before, after)]
    assert safety.guardrail(*rows, 0.05, 0.95)["verdict"] == verdict
    assert safety.guardrail(arm(0, 1), arm(0, 1), 0.05, 0.95) is None


def test_the_guardrail_counts_groups_and_shows_over_triage():
    """47 emergencies of three conversations are three observations; without an emergency nothing is kept."""
    rows = [{"id": i, "group": f"g{i % 3}", "red_flag_recall": 1.0, "over_escalation": None} for i in range(47)]
    found = safety.guardrail(rows, rows, 0.05, 0.95)
    assert (found["n"], found["groups"], found["verdict"]) == (47, 3, "not shown")
    assert found["low"] < -0.3 and found["over_escalation"] is None
    calm = [{"id": i, "group": i, "red_flag_recall": None, "over_escalation": 0.0} for i in range(50)]
    eager = [{**row, "over_escalation": 1.0} for row in calm]
    found = safety.guardrail(calm, eager, 0.05, 0.95)
    assert (found["n"], found["verdict"]) == (0, "vacuous")
    assert (found["over_escalation"]["difference"], found["over_escalation"]["n"]) == (1.0, 50)
    assert found["over_escalation"]["low"] > 0.8


def test_the_published_numbers_follow_from_their_counts_and_show_nothing():
    for row in published_scores.study_table({}):
        if row["recomputed"] is None:
            continue
        base, tuned = row["recomputed"]
        assert base["mean"] == pytest.approx(row["published_baseline"], abs=5e-5)
        assert tuned["mean"] == pytest.approx(row["published_finetuned"], abs=5e-5)
        assert base["low"] < tuned["mean"] < base["high"]  # each lies within the other's interval
        assert tuned["low"] < base["mean"] < tuned["high"]
