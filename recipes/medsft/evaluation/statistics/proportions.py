"""Intervals of shares that respect groups: Wilson's for one, Tango's and Newcombe's for two paired ones.

Rows of one group are alike, so n rows are worth n divided by the design effect (Kish 1965). A share of 0 or 1 shows no
design effect; there the rows are taken to be worth no more than the groups.

statsmodels has Wilson's interval for whole counts, none of Tango's or Newcombe's, and no design effect. Student's
distribution is imported where it is used: generate.py declares the analysis plan and computes none of it.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class ShareDifference(TypedDict):
    """Difference of two shares with its interval."""

    difference: float
    low: float
    high: float


class Share(NamedTuple):
    """A share, or a difference of two, with interval and p-value of 0."""

    value: float
    low: float
    high: float
    p: float


def wilson(successes: float, n: float, confidence: float, quantile: float | None = None) -> tuple[float, float]:
    """Score interval of a share (Wilson 1927). It has a width where a bootstrap has none: 0 of 13 may be up to 23 %.

    `quantile` replaces the normal one, for shares of few groups.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2) if quantile is None else quantile
    share, shrink = successes / n, z * z / n
    middle = (share + shrink / 2) / (1 + shrink)
    half = z * math.sqrt(share * (1 - share) / n + shrink / (4 * n)) / (1 + shrink)
    return (0.0 if successes == 0 else middle - half), (1.0 if successes == n else middle + half)


def clustered_share(hits: Array, rows: Array, confidence: float) -> Share:
    """Wilson's interval of a share over groups: hits and rows of each group, shape (groups,).

    n is divided by the design effect, and the quantile is Student's with one degree of freedom less than groups. Its
    p-value would be of a share of 0, which no test asks for: it is 1.
    """
    n, groups = float(rows.sum()), len(rows)
    share = float(hits.sum()) / n
    effective = _effective(n, rows, hits - share * rows, share * (1 - share))
    low, high = wilson(share * effective, effective, confidence, _student(groups, confidence))
    return Share(share, 0.0 if hits.sum() == 0 else low, 1.0 if hits.sum() == n else high, 1.0)


def clustered_difference(gains: Array, losses: Array, rows: Array, confidence: float) -> Share:
    """Difference of two paired shares by Tango's score interval (1998) over groups.

    `gains` are rows of each group where only the second is 1, `losses` where only the first is. The p-value is
    McNemar's score test, which the interval inverts, so the two agree. Design effect and quantile as above.
    """
    n, groups = float(rows.sum()), len(rows)
    up, down = float(gains.sum()) / n, float(losses.sum()) / n
    difference = up - down
    effective = _effective(n, rows, gains - losses - difference * rows, up + down - difference**2)
    z = _student(groups, confidence)
    p = 1.0
    if up != down:
        from scipy.special import stdtr

        p = 2 * float(stdtr(max(1, groups - 1), -abs(_tango(up, down, effective, 0.0))))
    low = _root(up, down, effective, z, -1.0, difference)
    high = -_root(down, up, effective, z, -1.0, -difference)
    return Share(difference, low, high, p)


def non_inferiority_p(gains: int, losses: int, n: int, margin: float) -> float:
    """One-sided p of a paired difference of -margin or less, by Tango's score test (1998) with Student's quantile.

    Below half of 1 - confidence where the lower end of `clustered_difference` of `n` single rows is above -margin.
    """
    from scipy.special import stdtr

    return 1 - float(stdtr(max(1, n - 1), _tango(gains / n, losses / n, n, -margin)))


def _effective(n: float, rows: Array, residuals: Array, variance: float) -> float:
    """n over the design effect: the variance of the share over groups, over that of `n` independent rows.

    Kish's effective number of groups where the rows show no variance. Never more than n.
    """
    groups = len(rows)
    kish = n * n / float(np.square(rows).sum())
    if variance <= 0 or groups < 2:
        return kish
    left = np.maximum(
        n - rows, 1e-9
    )  # the delete-one-group jackknife, wider than the linear variance for unequal groups
    between = (groups - 1) / groups * float(np.square(residuals / left).sum())
    return min(n, n * variance / ((n - 1) * between)) if between > 0 else n


def _student(groups: int, confidence: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(max(1, groups - 1), (1 + confidence) / 2))


def _tango(up: float, down: float, n: float, delta: float) -> float:
    """Score statistic of a paired difference of `delta`, with shares of gains and losses of `n` pairs."""
    b = -up - down + (2 - up + down) * delta
    root = math.sqrt(max(0.0, b * b + 8 * down * delta * (1 - delta)))
    least = (root - b) / 4  # the share of losses if delta is true
    variance = 2 * least + delta * (1 - delta)
    distance = up - down - delta
    if variance <= 0:
        return 0.0 if distance == 0 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance / n)


def _root(up: float, down: float, n: float, z: float, below: float, above: float) -> float:
    """The smallest difference that the score test does not reject: its statistic falls from `below` to `above`."""
    for _ in range(60):
        middle = (below + above) / 2
        if _tango(up, down, n, middle) > z:
            below = middle
        else:
            above = middle
    return above


def paired_shares(first: Sequence[float], second: Sequence[float], confidence: float) -> ShareDifference:
    """Difference of two paired shares (second minus first) with Newcombe's interval (1998, method 10).

    The values are 0 or 1, in the same order. The interval keeps its width where all pairs agree, which a bootstrap of
    the differences does not: five pairs that agree show next to nothing.
    """
    n = len(first)
    one, two = sum(first), sum(second)
    both = sum(a * b for a, b in zip(first, second, strict=True))
    lone_first, lone_second = one - both, two - both
    neither = n - both - lone_first - lone_second
    margins = one * (n - one) * two * (n - two)
    surplus = both * neither - lone_first * lone_second
    corrected = max(surplus - n / 2, 0.0) if surplus > 0 else surplus
    phi = corrected / math.sqrt(margins) if margins else 0.0
    (low1, high1), (low2, high2) = wilson(one, n, confidence), wilson(two, n, confidence)
    down1, up1, down2, up2 = one / n - low1, high1 - one / n, two / n - low2, high2 - two / n
    difference = (two - one) / n
    return {
        "difference": difference,
        "low": difference - math.sqrt(max(0.0, down2**2 - 2 * phi * down2 * up1 + up1**2)),
        "high": difference + math.sqrt(max(0.0, up2**2 - 2 * phi * up2 * down1 + down1**2)),
    }
