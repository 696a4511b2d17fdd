"""Bootstrap intervals that respect groups: rows of one group are drawn together.

Near-duplicate dialogues share a group, so their scores are not independent. Resampling single rows would make intervals
too narrow. All metrics use the same draws, and the same seed gives the same numbers. A value of None means that the
metric is not defined for the row.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from medsft.records import Interval, Summary

Values = Sequence[float | None]
Groups = Sequence[Hashable]
Array = NDArray[np.float64]

# Draws held at once: 2 million 8-byte indices are 16 MB, whatever the number of groups and resamples.
DRAWS_AT_ONCE = 2_000_000


class Resampling(NamedTuple):
    """Number of resamples, confidence level (0.95) and seed."""

    resamples: int
    confidence: float
    seed: int


def bootstrap_interval(
    values: Values, groups: Groups, resamples: int, confidence: float, seed: int
) -> tuple[float, float, float]:
    """Mean of `values` and its percentile bootstrap interval (Efron and Tibshirani 1993, chapter 13) over groups.

    `values` and `groups` have one entry per row. Groups are drawn with replacement and bring all their rows, so the
    mean stays a mean over rows. With a single group nothing can vary and the interval is the mean itself.
    """
    (found,) = intervals({"": values}, groups, resamples, confidence, seed).values()
    return found["mean"], found["low"], found["high"]


def intervals(
    columns: Mapping[str, Values], groups: Groups, resamples: int, confidence: float, seed: int
) -> dict[str, Interval]:
    """`mean`, `low` and `high` of every column, as `bootstrap_interval`. A column without any value is left out.

    A column with values for some rows only also has their number `n`.
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
    found: dict[str, Interval] = {}
    for at, index in enumerate(kept):
        found[names[index]] = {"mean": float(mean[at]), "low": float(low[at]), "high": float(high[at])}
        if rows[at] < len(groups):
            found[names[index]]["n"] = int(rows[at])
    return found


def summarise(columns: Mapping[str, Values], groups: Groups, resamples: int, confidence: float, seed: int) -> Summary:
    """The number of rows and of groups, and the interval of every column."""
    metrics = intervals(columns, groups, resamples, confidence, seed)
    return {"n": len(groups), "groups": len(set(groups)), "metrics": metrics}


def bootstrap_means(sums: Array, counts: Array, resamples: int, seed: int) -> Array:
    """Means of resampled groups, shape (resamples, metrics); NaN where a draw holds no row of a metric.

    `sums` and `counts` are (groups, metrics).
    """
    means = []
    for drawn in draw_groups(len(sums), resamples, seed):
        weights = multiplicities(drawn, len(sums))
        with np.errstate(invalid="ignore"):
            means.append((weights @ sums) / (weights @ counts))
    return np.concatenate(means)


def group_totals(columns: Mapping[str, Values], groups: Groups) -> tuple[Array, Array]:
    """Sum of the values and number of rows of each group and column: two arrays of shape (groups, columns)."""
    codes: dict[Hashable, int] = {}
    positions = np.array([codes.setdefault(group, len(codes)) for group in groups])
    values = np.array([[*column] for column in columns.values()], dtype=float)  # None becomes NaN
    known = ~np.isnan(values)
    sums = [np.bincount(positions, np.where(k, v, 0.0), len(codes)) for v, k in zip(values, known, strict=True)]
    counts = [np.bincount(positions, k.astype(float), len(codes)) for k in known]
    return np.array(sums, dtype=np.float64).T, np.array(counts, dtype=np.float64).T


def draw_groups(groups: int, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Arrays (size, groups) of group indices drawn with replacement, `resamples` rows in all."""
    generator = np.random.default_rng(seed)
    for size in chunks(groups, resamples):
        yield generator.integers(0, groups, size=(size, groups))


def multiplicities(drawn: NDArray[np.int64], groups: int) -> Array:
    """How often each draw holds each group: (size, groups) from drawn indices (size, groups)."""
    size = len(drawn)
    flat = (drawn + np.arange(size)[:, None] * groups).ravel()
    return np.bincount(flat, minlength=size * groups).reshape(size, groups).astype(np.float64)


def chunks(groups: int, resamples: int) -> Iterator[int]:
    """Sizes that add up to `resamples`, each with at most DRAWS_AT_ONCE draws of all groups."""
    size = max(1, DRAWS_AT_ONCE // groups)
    for start in range(0, resamples, size):
        yield min(size, resamples - start)
