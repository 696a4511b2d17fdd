"""Intervals of shares: Wilson's for one, Newcombe's for the difference of two paired ones."""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import TypedDict


class ShareDifference(TypedDict):
    """Difference of two shares with its interval."""

    difference: float
    low: float
    high: float


def wilson(successes: float, n: int, confidence: float) -> tuple[float, float]:
    """Score interval of a share (Wilson 1927). It has a width where a bootstrap has none: 0 of 13 may be up to 23 %."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, shrink = successes / n, z * z / n
    middle = (share + shrink / 2) / (1 + shrink)
    half = z * math.sqrt(share * (1 - share) / n + shrink / (4 * n)) / (1 + shrink)
    return (0.0 if successes == 0 else middle - half), (1.0 if successes == n else middle + half)


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
