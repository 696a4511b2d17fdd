"""Intervals and paired tests that respect groups: rows that belong together are drawn, and flipped, together.

Near-duplicate dialogues share a group, so their scores are not independent; resampling rows would make intervals too
narrow. Everything here is numpy over one sum and one count per group and metric, all metrics at once on the same draws,
and the same for the same seed. A value of None is a row that the metric is not defined for.
"""

from collections.abc import Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = list[dict[str, Any]]
Values = Sequence[float | None]
Array = NDArray[np.float64]

# Draws held at once: 2 million 8-byte indices are 16 MB, whatever the number of groups and resamples.
DRAWS_AT_ONCE = 2_000_000
POWER = 0.8  # the chance of seeing a true difference that `needed_groups` is computed for


def bootstrap_interval(
    values: Values, groups: Sequence[Any], resamples: int, confidence: float, seed: int
) -> tuple[float, float, float]:
    """Mean of `values` and its percentile bootstrap interval (Efron and Tibshirani 1993, chapter 13) over groups.

    `values` and `groups` have one entry per row. Groups are drawn with replacement and bring all their rows, so the
    mean stays a mean over rows. With a single group nothing can vary and the interval is the mean itself.
    """
    (found,) = intervals({"": values}, groups, resamples, confidence, seed).values()
    return found["mean"], found["low"], found["high"]


def intervals(
    columns: Mapping[str, Values], groups: Sequence[Any], resamples: int, confidence: float, seed: int
) -> dict[str, dict[str, float]]:
    """`mean`, `low` and `high` of every column, as `bootstrap_interval`; a column of None only is left out.

    A column that is defined for some rows only also says for how many, as `n`.
    """
    sums, counts = group_totals(columns, groups)
    kept = np.flatnonzero(counts.sum(axis=0))
    sums, counts = sums[:, kept], counts[:, kept]
    means = bootstrap_means(sums, counts, resamples, seed)
    low, high = np.nanquantile(means, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    rows = counts.sum(axis=0)
    mean = sums.sum(axis=0) / rows
    # equal values are equal in every resample but for the last bits
    low, high = (np.where(np.isclose(side, mean, rtol=1e-12, atol=1e-15), mean, side) for side in (low, high))
    names = [*columns]
    return {
        names[index]: {"mean": float(mean[at]), "low": float(low[at]), "high": float(high[at])}
        | ({"n": int(rows[at])} if rows[at] < len(groups) else {})
        for at, index in enumerate(kept)
    }


def bootstrap_means(sums: Array, counts: Array, resamples: int, seed: int) -> Array:
    """Means of resampled groups, shape (resamples, metrics); NaN where a draw holds no row of a metric.

    `sums` and `counts` are (groups, metrics).
    """
    means = []
    for drawn in _draws(len(sums), resamples, seed):
        weights = multiplicities(drawn, len(sums))
        with np.errstate(invalid="ignore"):
            means.append((weights @ sums) / (weights @ counts))
    return np.concatenate(means)


def multiplicities(drawn: NDArray[np.int64], groups: int) -> Array:
    """How often each group stands in each draw: (size, groups) from drawn indices (size, groups)."""
    size = len(drawn)
    flat = (drawn + np.arange(size)[:, None] * groups).ravel()
    return np.bincount(flat, minlength=size * groups).reshape(size, groups).astype(np.float64)


def randomisation_test(differences: Values, groups: Sequence[Any], resamples: int, seed: int) -> float:
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
    for size in _chunks(len(sums), resamples):
        signs = generator.integers(0, 2, size=(size, len(sums)), dtype=np.int8) * 2.0 - 1.0
        reached += np.count_nonzero(np.abs(signs @ sums) >= observed, axis=0)
    return (reached + 1) / (resamples + 1)


def paired_comparison(
    baseline_values: Values,
    arm_values: Values,
    groups: Sequence[Any],
    resamples: int,
    confidence: float,
    seed: int,
) -> dict[str, float]:
    """`difference` (arm minus baseline, mean over rows), its `low` and `high`, and the two-sided `p`.

    The three sequences have one entry per row both arms answered, in the same order.
    """
    (found,) = paired_comparisons({"": baseline_values}, {"": arm_values}, groups, resamples, confidence, seed).values()
    return {name: found[name] for name in ("difference", "low", "high", "p")}


def paired_comparisons(
    baseline: Mapping[str, Values],
    arm: Mapping[str, Values],
    groups: Sequence[Any],
    resamples: int,
    confidence: float,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """For each metric of both: difference, low, high, p, n, effect_size and needed_groups.

    `effect_size` is Cohen's d of paired differences over groups (mean over standard deviation; 0.2 small, 0.5 medium,
    0.8 large). `needed_groups` is how many groups a study needs to see a true difference of the size found with 80 %
    power at this level, (z_a + z_b)^2 / d^2; None where nothing differs. A difference needs both values of a row.
    """
    names = [name for name in arm if name in baseline]
    differences = {
        name: [None if a is None or b is None else b - a for a, b in zip(baseline[name], arm[name], strict=True)]
        for name in names
    }
    found = intervals(differences, groups, resamples, confidence, seed)
    sums, counts = group_totals(differences, groups)
    p_values = dict(zip(names, _flip_tests(sums, resamples, seed), strict=True))
    result: dict[str, dict[str, Any]] = {}
    for at, name in enumerate(names):
        if name not in found:
            continue
        value, present = found[name], counts[:, at] > 0
        effect = standardised(sums[present, at] / counts[present, at])
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


def standardised(differences: Array) -> float | None:
    """Mean over standard deviation of groups' differences; None where they do not vary."""
    spread = float(np.std(differences, ddof=1)) if len(differences) > 1 else 0.0
    return float(np.mean(differences)) / spread if spread > 1e-12 else None


def needed_groups(effect: float | None, alpha: float, power: float = POWER) -> int | None:
    """Groups for a two-sided paired test at level `alpha` to see `effect` with `power` (normal approximation)."""
    if not effect:
        return None
    normal = NormalDist()
    needed = ((normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(power)) / effect) ** 2
    return int(np.ceil(min(needed, 1e9)))


def holm(pvalues: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (1979) in the order given: valid for any dependence between the tests."""
    adjusted = [0.0] * len(pvalues)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(pvalues)), key=lambda i: pvalues[i])):
        largest = max(largest, min(1.0, (len(pvalues) - rank) * pvalues[index]))
        adjusted[index] = largest
    return adjusted


def summarise(
    columns: Mapping[str, Values], groups: Sequence[Any], resamples: int, confidence: float, seed: int
) -> dict[str, Any]:
    """`n` rows, number of `groups`, and for each of `metrics` its mean, low and high."""
    metrics = intervals(columns, groups, resamples, confidence, seed)
    return {"n": len(groups), "groups": len(set(groups)), "metrics": metrics}


def compare_arms(
    arms: dict[str, Rows], baseline: str, metrics: Sequence[str], resamples: int, confidence: float, seed: int
) -> Rows:
    """Each arm minus the `baseline` arm in each metric, on the rows both answered; `p_holm` over all of these together.

    Rows are per-example scores: `id`, `group` and every metric. Without a baseline arm there is nothing to compare.
    """
    comparisons: Rows = []
    for arm in [arm for arm in arms if arms.get(baseline) and arm != baseline]:
        pairs = common_rows(arms[baseline], arms[arm])
        before, after = ({m: [pair[side].get(m) for pair in pairs] for m in metrics} for side in (0, 1))
        groups = [row["group"] for _, row in pairs]
        found = paired_comparisons(before, after, groups, resamples, confidence, seed)
        comparisons += [{"metric": m, "baseline": baseline, "arm": arm, **value} for m, value in found.items()]
    for row, p_holm in zip(comparisons, holm([row["p"] for row in comparisons]), strict=True):
        row["p_holm"] = p_holm
    return comparisons


def common_rows(first: Rows, second: Rows) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Pairs of rows with the same id, in the order of the second."""
    known = {row["id"]: row for row in first}
    return [(known[row["id"]], row) for row in second if row["id"] in known]


def group_totals(columns: Mapping[str, Values], groups: Sequence[Any]) -> tuple[Array, Array]:
    """Sum of the values and number of rows of each group and column: two arrays of shape (groups, columns)."""
    codes: dict[Any, int] = {}
    positions = np.array([codes.setdefault(group, len(codes)) for group in groups])
    values = np.array([[*column] for column in columns.values()], dtype=float)  # None becomes NaN
    known = ~np.isnan(values)
    sums = [np.bincount(positions, np.where(k, v, 0.0), len(codes)) for v, k in zip(values, known, strict=True)]
    counts = [np.bincount(positions, k.astype(float), len(codes)) for k in known]
    return np.array(sums, dtype=np.float64).T, np.array(counts, dtype=np.float64).T


def _draws(groups: int, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Arrays (size, groups) of group indices drawn with replacement, `resamples` rows in all."""
    generator = np.random.default_rng(seed)
    for size in _chunks(groups, resamples):
        yield generator.integers(0, groups, size=(size, groups))


def _chunks(groups: int, resamples: int) -> Iterator[int]:
    size = max(1, DRAWS_AT_ONCE // groups)
    for start in range(0, resamples, size):
        yield min(size, resamples - start)
