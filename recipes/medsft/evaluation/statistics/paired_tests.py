"""Paired tests of arms against the baseline, by sign flips of whole groups, with Holm's correction."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from medsft.evaluation.statistics.intervals import Array, Groups, Values, chunks, group_totals, intervals
from medsft.evaluation.statistics.power import effect_size, needed_groups
from medsft.records import Change, Difference, Effect, ScoreRow

Row = TypeVar("Row", bound=Mapping[str, object])


def randomisation_test(differences: Values, groups: Groups, resamples: int, seed: int) -> float:
    """Two-sided p-value of the mean of paired `differences` by approximate randomisation (Noreen 1989).

    If the two arms were interchangeable, swapping them for a whole group, which flips the sign of its differences,
    would be as likely as not. p = (c + 1) / (resamples + 1), c counting the flips at least as far from 0 as observed.
    """
    sums, _ = group_totals({"": differences}, groups)
    return float(_flip_tests(sums, resamples, seed)[0])


def _flip_tests(sums: Array, resamples: int, seed: int) -> Array:
    """The p-value of each column of group sums (groups, metrics)."""
    # Sums of the same numbers in another order differ in the last bits; a tie must count as "at least as far".
    observed = np.abs(sums.sum(axis=0)) - 1e-12 * np.abs(sums).sum(axis=0)
    generator = np.random.default_rng(seed)
    reached = np.zeros(sums.shape[1])
    for size in chunks(len(sums), resamples):
        signs = generator.integers(0, 2, size=(size, len(sums)), dtype=np.int8) * 2.0 - 1.0
        reached += np.count_nonzero(np.abs(signs @ sums) >= observed, axis=0)
    return (reached + 1) / (resamples + 1)


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
    left out. Cohen's d of 0.2 is called small, 0.5 medium, 0.8 large.
    """
    names = [name for name in arm if name in baseline]
    differences = {
        name: [None if a is None or b is None else b - a for a, b in zip(baseline[name], arm[name], strict=True)]
        for name in names
    }
    found = intervals(differences, groups, resamples, confidence, seed)
    sums, counts = group_totals(differences, groups)
    p_values = dict(zip(names, _flip_tests(sums, resamples, seed), strict=True))
    result: dict[str, Effect] = {}
    for at, name in enumerate(names):
        if name not in found:
            continue
        value, present = found[name], counts[:, at] > 0
        effect = effect_size(sums[present, at] / counts[present, at])
        result[name] = {
            "difference": value["mean"],
            "low": value["low"],
            "high": value["high"],
            "p": float(p_values[name]),
            "n": value.get("n", len(groups)),
            "effect_size": effect,
            "needed_groups": needed_groups(effect, 1 - confidence),
        }
    return result


def compare_rows(
    pairs: Sequence[tuple[ScoreRow, ScoreRow]], metrics: Sequence[str], resamples: int, confidence: float, seed: int
) -> dict[str, Effect]:
    """`paired_comparisons` of pairs of rows, as `common_rows` gives them. A row without a metric counts as None."""
    before, after = ({name: [pair[side].get(name) for pair in pairs] for name in metrics} for side in (0, 1))
    return paired_comparisons(before, after, [row["group"] for _, row in pairs], resamples, confidence, seed)


def untested(effect: Effect) -> Change:
    """The effect without its p-value and power, for metrics that were not declared."""
    return {
        "difference": effect["difference"],
        "low": effect["low"],
        "high": effect["high"],
        "n": effect["n"],
        "effect_size": effect["effect_size"],
    }


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
    comparisons: list[Difference] = []
    for arm in [arm for arm in arms if arms.get(baseline) and arm != baseline]:
        found = compare_rows(common_rows(arms[baseline], arms[arm]), metrics, resamples, confidence, seed)
        for metric, effect in found.items():
            comparisons.append({"metric": metric, "baseline": baseline, "arm": arm, **effect, "p_holm": 1.0})
    for row, p_holm in zip(comparisons, holm([row["p"] for row in comparisons]), strict=True):
        row["p_holm"] = p_holm
    return comparisons


def holm(pvalues: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (1979) in the order given: valid for any dependence between the tests."""
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
