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
    normal = NormalDist()
    needed = ((normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(power)) / effect) ** 2
    return math.ceil(min(needed, 1e9))
