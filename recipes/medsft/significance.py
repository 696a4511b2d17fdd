"""Intervals and paired tests that respect groups: rows that belong together are drawn, and flipped, together.

Near-duplicate dialogues share a group, so their scores are not independent; resampling rows would make intervals too
narrow. Everything here is numpy, vectorised through one sum and one count per group, and the same for the same seed.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = list[dict[str, Any]]

# Draws held at once: 2 million 8-byte indices are 16 MB, whatever the number of groups and resamples.
DRAWS_AT_ONCE = 2_000_000


def bootstrap_interval(
    values: Sequence[float], groups: Sequence[Any], resamples: int, confidence: float, seed: int
) -> tuple[float, float, float]:
    """Mean of `values` and its percentile bootstrap interval (Efron and Tibshirani 1993, chapter 13) over groups.

    `values` and `groups` have one entry per row. Groups are drawn with replacement and bring all their rows, so the
    mean stays a mean over rows. With a single group nothing can vary and the interval is the mean itself.
    """
    sums, counts = group_totals(values, groups)
    means = [sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1) for drawn in _draws(len(sums), resamples, seed)]
    low, high = np.quantile(np.concatenate(means), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(sums.sum() / counts.sum()), float(low), float(high)


def randomisation_test(differences: Sequence[float], groups: Sequence[Any], resamples: int, seed: int) -> float:
    """Two-sided p-value of the mean of paired `differences` by approximate randomisation (Noreen 1989).

    If the two arms were interchangeable, swapping them for a whole group, which flips the sign of its differences,
    would be as likely as not. p = (c + 1) / (resamples + 1), c counting the flips at least as far from 0 as observed.
    """
    sums, _ = group_totals(differences, groups)
    # Sums of the same numbers in another order differ in the last bits; a tie must count as "at least as far".
    observed = abs(sums.sum()) - 1e-12 * np.abs(sums).sum()
    generator = np.random.default_rng(seed)
    reached = 0
    for size in _chunks(len(sums), resamples):
        signs = generator.integers(0, 2, size=(size, len(sums)), dtype=np.int8) * 2 - 1
        reached += int(np.count_nonzero(np.abs(signs @ sums) >= observed))
    return (reached + 1) / (resamples + 1)


def paired_comparison(
    baseline_values: Sequence[float],
    arm_values: Sequence[float],
    groups: Sequence[Any],
    resamples: int,
    confidence: float,
    seed: int,
) -> dict[str, float]:
    """`difference` (arm minus baseline, mean over rows), its `low` and `high`, and the two-sided `p`.

    The three sequences have one entry per row both arms answered, in the same order.
    """
    differences = np.asarray(arm_values, dtype=float) - np.asarray(baseline_values, dtype=float)
    mean, low, high = bootstrap_interval(differences.tolist(), groups, resamples, confidence, seed)
    p = randomisation_test(differences.tolist(), groups, resamples, seed)
    return {"difference": mean, "low": low, "high": high, "p": p}


def holm(pvalues: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (1979) in the order given: valid for any dependence between the tests."""
    adjusted = [0.0] * len(pvalues)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(pvalues)), key=lambda i: pvalues[i])):
        largest = max(largest, min(1.0, (len(pvalues) - rank) * pvalues[index]))
        adjusted[index] = largest
    return adjusted


def summarise(
    columns: dict[str, list[float]], groups: Sequence[Any], resamples: int, confidence: float, seed: int
) -> dict[str, Any]:
    """`n` rows, number of `groups`, and for each of `metrics` its mean, low and high."""
    summary = {}
    for name, values in columns.items():
        mean, low, high = bootstrap_interval(values, groups, resamples, confidence, seed)
        summary[name] = {"mean": mean, "low": low, "high": high}
    return {"n": len(groups), "groups": len(set(groups)), "metrics": summary}


def compare_arms(
    arms: dict[str, Rows], baseline: str, metrics: Sequence[str], resamples: int, confidence: float, seed: int
) -> Rows:
    """Each arm minus the `baseline` arm in each metric, on the rows both answered; `p_holm` over all of these together.

    Rows are per-example scores: `id`, `group` and every metric. Without a baseline arm there is nothing to compare.
    """
    first = {row["id"]: row for row in arms.get(baseline, [])}
    comparisons: Rows = []
    for arm in [arm for arm in arms if first and arm != baseline]:
        pairs = [(first[row["id"]], row) for row in arms[arm] if row["id"] in first]
        groups = [row["group"] for _, row in pairs]
        for metric in metrics:
            values = [before[metric] for before, _ in pairs], [after[metric] for _, after in pairs]
            result = paired_comparison(*values, groups, resamples, confidence, seed)
            comparisons.append({"metric": metric, "baseline": baseline, "arm": arm, **result, "n": len(pairs)})
    for row, p_holm in zip(comparisons, holm([row["p"] for row in comparisons]), strict=True):
        row["p_holm"] = p_holm
    return comparisons


def group_totals(values: Sequence[float], groups: Sequence[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum of the values and number of rows of each group: two arrays of shape (groups,)."""
    codes: dict[Any, int] = {}
    positions = np.array([codes.setdefault(group, len(codes)) for group in groups])
    sums, counts = np.bincount(positions, weights=np.asarray(values, dtype=float)), np.bincount(positions)
    return sums.astype(np.float64), counts.astype(np.float64)


def _draws(groups: int, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Arrays (size, groups) of group indices drawn with replacement, `resamples` rows in all."""
    generator = np.random.default_rng(seed)
    for size in _chunks(groups, resamples):
        yield generator.integers(0, groups, size=(size, groups))


def _chunks(groups: int, resamples: int) -> Iterator[int]:
    size = max(1, DRAWS_AT_ONCE // groups)
    for start in range(0, resamples, size):
        yield min(size, resamples - start)
