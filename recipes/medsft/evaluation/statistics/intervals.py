"""Intervals and p-values of means over rows that respect groups: rows of one group count together.

Near-duplicate dialogues share a group, so their scores are not independent; treating rows as single would make
intervals too narrow. A column of zeros and ones is a share and gets Wilson's interval; every other gets a bootstrap-t.
A value of None means that the metric is not defined for the row.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from medsft.evaluation.statistics import proportions, studentised
from medsft.evaluation.statistics.studentised import Array
from medsft.records import Interval, Summary

Values = Sequence[float | None]
Groups = Sequence[Hashable]

# In 2,000 simulated studies 95 % intervals cover at least 91 % from here on; with 8 groups skewed metrics fell to 90 %.
LEAST_GROUPS = 10
TOO_ALIKE = "too few groups differ from the others"


class Resampling(NamedTuple):
    """Number of resamples, confidence level (0.95) and seed."""

    resamples: int
    confidence: float
    seed: int


class Found(NamedTuple):
    """Mean over `n` rows, interval and p-value of a mean of 0. Without an interval `p` is 1 and `reason` says why."""

    mean: float
    low: float | None
    high: float | None
    p: float
    n: int
    reason: str


def find(
    columns: Mapping[str, Values],
    groups: Groups,
    resamples: int,
    confidence: float,
    seed: int,
    differences: bool = False,
) -> dict[str, Found]:
    """Mean, interval and p-value of every column; one without any value is left out.

    Columns of `differences` are neither shares nor bounded by 0, whatever their values are.

    `columns` have one entry per row, as `groups` has. All columns use the same draws, and the same seed gives the same
    numbers. There is no interval below LEAST_GROUPS groups, or where too few groups differ from the others for the
    bootstrap to have a spread in all but the tails.
    """
    sums, counts = group_totals(columns, groups)
    result: dict[str, Found] = {}
    names = [name for at, name in enumerate(columns) if counts[:, at].any()]
    at = {name: position for position, name in enumerate(columns)}
    shares = {name for name in names if not differences and is_share(columns[name])}
    enough = {name: np.count_nonzero(counts[:, at[name]]) >= LEAST_GROUPS for name in names}
    others = [at[name] for name in names if name not in shares and enough[name]]
    if others:
        estimates = studentised.estimate(sums[:, others], counts[:, others], resamples, confidence, seed)
    for name in names:
        column, rows = counts[:, at[name]], int(counts[:, at[name]].sum())
        mean, present = float(sums[:, at[name]].sum() / rows), column > 0
        if not enough[name]:
            result[name] = without(mean, rows, int(present.sum()))
        elif name in shares:
            share = proportions.clustered_share(sums[present, at[name]], column[present], confidence)
            result[name] = Found(mean, share.low, share.high, share.p, rows, "")
        else:
            position = others.index(at[name])
            low, high, p = (float(part[position]) for part in estimates[1:])
            if not np.isfinite([low, high]).all():
                result[name] = Found(mean, None, None, 1.0, rows, TOO_ALIKE)
                continue
            never_negative = not differences and all(value is None or value >= 0 for value in columns[name])
            result[name] = Found(mean, max(low, 0.0) if never_negative else low, high, p, rows, "")
    return result


def without(mean: float, rows: int, groups: int) -> Found:
    """A mean of too few groups for an interval."""
    counted = "1 group" if groups == 1 else f"{groups} groups"
    return Found(mean, None, None, 1.0, rows, f"{counted}, an interval takes {LEAST_GROUPS}")


def is_share(values: Values) -> bool:
    """Whether every value is 0 or 1."""
    return all(value is None or value in (0, 1) for value in values)


def bootstrap_interval(
    values: Values, groups: Groups, resamples: int, confidence: float, seed: int
) -> tuple[float, float | None, float | None]:
    """Mean of `values` and the two ends of its interval."""
    (found,) = find({"": values}, groups, resamples, confidence, seed).values()
    return found.mean, found.low, found.high


def intervals(
    columns: Mapping[str, Values], groups: Groups, resamples: int, confidence: float, seed: int
) -> dict[str, Interval]:
    """`mean`, `low` and `high` of every column, and `no_interval` where it has none.

    A column with values for some rows only also has their number `n`.
    """
    result: dict[str, Interval] = {}
    for name, found in find(columns, groups, resamples, confidence, seed).items():
        result[name] = {"mean": found.mean, "low": found.low, "high": found.high}
        if found.reason:
            result[name]["no_interval"] = found.reason
        if found.n < len(groups):
            result[name]["n"] = found.n
    return result


def ratio_interval(numerators: Values, denominators: Values, groups: Groups, resampling: Resampling) -> Interval:
    """The sum of `numerators` over that of `denominators`, by a bootstrap-t over groups."""
    above, _ = group_totals({"": numerators}, groups)
    below, _ = group_totals({"": denominators}, groups)
    total = float(below.sum())
    ratio = float(above.sum()) / total if total else 0.0
    if len(above) < LEAST_GROUPS or not total:
        return _interval(ratio, -np.inf, np.inf, len(above))
    _, low, high, _ = studentised.estimate(above, below, *resampling)
    return _interval(ratio, float(low[0]), float(high[0]), len(above))


def jackknife_interval(rows: Array, groups: Groups, statistic: Callable[[Array], float], confidence: float) -> Interval:
    """A statistic of the sums of `rows` (rows, parts) that is no mean, with Student's interval over groups.

    The standard error is the delete-one-group jackknife's (Efron and Stein 1981), which suits smooth functions of sums.
    """
    from scipy.special import stdtrit

    sums, _ = group_totals({str(at): column for at, column in enumerate(rows.T.tolist())}, groups)
    whole, count = sums.sum(axis=0), len(sums)
    value = statistic(whole)
    if count < LEAST_GROUPS:
        return _interval(value, -np.inf, np.inf, count)
    left_out = np.array([statistic(whole - part) for part in sums])
    error = float(np.sqrt((count - 1) / count * np.square(left_out - left_out.mean()).sum()))
    half = float(stdtrit(count - 1, (1 + confidence) / 2)) * error
    return _interval(value, max(0.0, value - half), value + half, count)


def _interval(mean: float, low: float, high: float, groups: int) -> Interval:
    """An interval, or none and the reason where its ends are infinite."""
    if np.isfinite([low, high]).all():
        return {"mean": mean, "low": low, "high": high}
    few = without(mean, groups, groups).reason if groups < LEAST_GROUPS else TOO_ALIKE
    return {"mean": mean, "low": None, "high": None, "no_interval": few}


def summarise(columns: Mapping[str, Values], groups: Groups, resamples: int, confidence: float, seed: int) -> Summary:
    """The number of rows and of groups, and the interval of every column."""
    metrics = intervals(columns, groups, resamples, confidence, seed)
    return {"n": len(groups), "groups": len(set(groups)), "metrics": metrics}


def group_totals(columns: Mapping[str, Values], groups: Groups) -> tuple[Array, Array]:
    """Sum of the values and number of rows of each group and column: two arrays of shape (groups, columns)."""
    codes: dict[Hashable, int] = {}
    positions = np.array([codes.setdefault(group, len(codes)) for group in groups])
    values = np.array([[*column] for column in columns.values()], dtype=float)  # None becomes NaN
    known = ~np.isnan(values)
    sums = [np.bincount(positions, np.where(k, v, 0.0), len(codes)) for v, k in zip(values, known, strict=True)]
    counts = [np.bincount(positions, k.astype(float), len(codes)) for k in known]
    return np.array(sums, dtype=np.float64).T, np.array(counts, dtype=np.float64).T
