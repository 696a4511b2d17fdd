"""Effect sizes and the number of groups that a study needs to see them."""

import math
from statistics import NormalDist

import numpy as np

from medsft.evaluation.statistics.intervals import Array

POWER = 0.8  # the chance of seeing a true difference that `needed_groups` is computed for


def effect_size(differences: Array) -> float | None:
    """Cohen's d of groups' differences (mean over standard deviation); None where they do not vary."""
    spread = float(np.std(differences, ddof=1)) if len(differences) > 1 else 0.0
    return float(np.mean(differences)) / spread if spread > 1e-12 else None


def needed_groups(effect: float | None, alpha: float, power: float = POWER) -> int | None:
    """Groups for a two-sided paired test at level `alpha` to see `effect` with `power`: (z_a + z_b)^2 / d^2.

    By the normal approximation. None without an effect.
    """
    if not effect:
        return None
    return math.ceil(min((_quantiles(alpha, power) / effect) ** 2, 1e9))


def detectable(differences: Array, alpha: float, power: float = POWER) -> float | None:
    """The true difference that as many groups with this spread show with `power`: (z_a + z_b) s / sqrt(G).

    By the normal approximation, before any correction. None for one group.
    """
    if len(differences) < 2:
        return None
    return _quantiles(alpha, power) * float(np.std(differences, ddof=1)) / math.sqrt(len(differences))


def _quantiles(alpha: float, power: float) -> float:
    normal = NormalDist()
    return normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(power)
