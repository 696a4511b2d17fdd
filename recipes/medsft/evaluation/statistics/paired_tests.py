"""Paired comparisons of arms over groups, with Holm's correction."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from medsft.evaluation.statistics import proportions
from medsft.evaluation.statistics.intervals import LEAST_GROUPS, Found, Groups, Values, find, group_totals, is_share
from medsft.evaluation.statistics.power import detectable, effect_size, needed_groups
from medsft.records import Change, Difference, Effect, ScoreRow

Row = TypeVar("Row", bound=Mapping[str, object])


def paired_comparisons(
    baseline: Mapping[str, Values],
    arm: Mapping[str, Values],
    groups: Groups,
    resamples: int,
    confidence: float,
    seed: int,
) -> dict[str, Effect]:
    """The difference of each metric of both, arm minus baseline, over the rows where both have a value.

    All sequences have one entry per row that both arms answered, in the same order. A metric without any such row is
    left out. Interval and p-value come from one method, a bootstrap-t or, for shares, Tango's score interval, so that p
    is below 1 - confidence where the interval excludes 0. Cohen's d of 0.2 is called small, 0.5 medium, 0.8 large.
    """
    names = [name for name in arm if name in baseline]
    differences = {
        name: [None if a is None or b is None else b - a for a, b in zip(baseline[name], arm[name], strict=True)]
        for name in names
    }
    sums, counts = group_totals(differences, groups)
    found = find(differences, groups, resamples, confidence, seed, differences=True)
    result: dict[str, Effect] = {}
    for at, name in enumerate(names):
        if name not in found:
            continue
        present = counts[:, at] > 0
        if is_share(baseline[name]) and is_share(arm[name]) and present.sum() >= LEAST_GROUPS:
            found[name] = paired_share(differences[name], groups, confidence)
        by_group = sums[present, at] / counts[present, at]
        result[name] = _effect(found[name], effect_size(by_group), 1 - confidence)
        result[name]["detectable"] = detectable(by_group, 1 - confidence)
    return result


def paired_share(differences: Values, groups: Groups, confidence: float) -> Found:
    """The mean of differences of -1, 0 and 1 between two shares, by Tango's score interval over groups."""
    gains = [None if value is None else float(value > 0) for value in differences]
    losses = [None if value is None else float(value < 0) for value in differences]
    sums, counts = group_totals({"gains": gains, "losses": losses}, groups)
    sums, counts = sums[counts[:, 0] > 0], counts[counts[:, 0] > 0]
    share = proportions.clustered_difference(sums[:, 0], sums[:, 1], counts[:, 0], confidence)
    return Found(share.value, share.low, share.high, share.p, int(counts[:, 0].sum()), "")


def _effect(found: Found, effect: float | None, alpha: float) -> Effect:
    row: Effect = {
        "difference": found.mean,
        "low": found.low,
        "high": found.high,
        "p": found.p,
        "n": found.n,
        "effect_size": effect,
        "needed_groups": needed_groups(effect, alpha),
    }
    if found.reason:
        row["no_interval"] = found.reason
    return row


def compare_rows(
    pairs: Sequence[tuple[ScoreRow, ScoreRow]], metrics: Sequence[str], resamples: int, confidence: float, seed: int
) -> dict[str, Effect]:
    """`paired_comparisons` of pairs of rows, as `common_rows` gives them. A row without a metric counts as None."""
    before, after = ({name: [pair[side].get(name) for pair in pairs] for name in metrics} for side in (0, 1))
    return paired_comparisons(before, after, [row["group"] for _, row in pairs], resamples, confidence, seed)


def untested(effect: Effect) -> Change:
    """The effect without its p-value and power, for metrics that were not declared."""
    change: Change = {
        "difference": effect["difference"],
        "low": effect["low"],
        "high": effect["high"],
        "n": effect["n"],
        "effect_size": effect["effect_size"],
    }
    if "no_interval" in effect:
        change["no_interval"] = effect["no_interval"]
    return change


def compare_arms(
    arms: Mapping[str, list[ScoreRow]],
    baseline: str,
    metrics: Sequence[str],
    resamples: int,
    confidence: float,
    seed: int,
) -> list[Difference]:
    """Each arm minus the `baseline` arm in each metric, on the rows both answered; `p_holm` over all of these together.

    Empty without a baseline arm.
    """
    pairs = [(baseline, arm) for arm in arms if arms.get(baseline) and arm != baseline]
    return compare_pairs(arms, pairs, metrics, resamples, confidence, seed)


def compare_pairs(
    systems: Mapping[str, list[ScoreRow]],
    pairs: Sequence[tuple[str, str]],
    metrics: Sequence[str],
    resamples: int,
    confidence: float,
    seed: int,
) -> list[Difference]:
    """The second system of each pair minus the first, on the rows both answered; `p_holm` over all of these."""
    rows: list[Difference] = []
    for first, second in pairs:
        common = common_rows(systems[first], systems[second])
        if common:
            for metric, effect in compare_rows(common, metrics, resamples, confidence, seed).items():
                rows.append({"metric": metric, "baseline": first, "arm": second, **effect, "p_holm": 1.0})
    for row, p_holm in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = p_holm
    return rows


def holm(pvalues: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (1979) in the order given: valid for any dependence between the tests.

    Six lines instead of statsmodels, whose import takes a second and brings pandas.
    """
    adjusted = [0.0] * len(pvalues)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(pvalues)), key=lambda i: pvalues[i])):
        largest = max(largest, min(1.0, (len(pvalues) - rank) * pvalues[index]))
        adjusted[index] = largest
    return adjusted


def common_rows(first: Sequence[Row], second: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Pairs of rows with the same id, in the order of the second."""
    known = {row["id"]: row for row in first}
    return [(known[row["id"]], row) for row in second if row["id"] in known]
