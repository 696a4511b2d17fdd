"""Krippendorff's alpha: agreement of any number of raters, some of whom left units out.

alpha = 1 - observed disagreement / disagreement by chance, from the coincidences of values within units (Krippendorff
2011, "Computing Krippendorff's Alpha-Reliability"). Twenty lines instead of another package; the tests hold the values
of his own examples.
"""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from medsft.evaluation.statistics.intervals import LEAST_GROUPS
from medsft.records import Interval

Unit = Sequence[Hashable]  # the values that raters gave to one unit, without those who gave none


def alpha(units: Sequence[Unit], order: Sequence[Hashable] = ()) -> float | None:
    """1 is perfect agreement, 0 chance. With an `order` of the values, larger steps are larger disagreements (ordinal).

    None where no unit has two values, or all values are one.
    """
    coincidences: Counter[tuple[Hashable, Hashable]] = Counter()
    for unit in units:
        counts = Counter(unit)
        for one, often in counts.items():
            for other, too in counts.items():
                pairs = often * (too - 1 if one == other else too)
                if len(unit) > 1 and pairs:
                    coincidences[one, other] += pairs / (len(unit) - 1)  # type: ignore[assignment]
    totals: Counter[Hashable] = Counter()
    for (one, _), number in coincidences.items():
        totals[one] += number
    n = sum(totals.values())
    distance = {(a, b): _distance(a, b, totals, order) for a in totals for b in totals}
    expected = sum(totals[a] * totals[b] * distance[a, b] for a in totals for b in totals)
    if not expected:
        return None
    observed = sum(number * distance[pair] for pair, number in coincidences.items())
    return float(1 - (n - 1) * observed / expected)


def _distance(one: Hashable, other: Hashable, totals: Mapping[Hashable, float], order: Sequence[Hashable]) -> float:
    """The squared difference of two values: 0 or 1, or for an order the values that lie between them."""
    if one == other or not order:
        return float(one != other)
    first, last = sorted((order.index(one), order.index(other)))
    between = sum(totals.get(value, 0) for value in order[first : last + 1])
    return float(between - (totals[one] + totals[other]) / 2) ** 2


def alpha_interval(
    units: Mapping[Hashable, Sequence[Unit]], order: Sequence[Hashable], resamples: int, confidence: float, seed: int
) -> Interval | None:
    """Alpha of the units of each group, with a percentile bootstrap over groups of at most 2,000 resamples."""
    groups = [*units.values()]
    whole = alpha([unit for group in groups for unit in group], order)
    if whole is None:
        return None
    if len(groups) < LEAST_GROUPS:
        return {"mean": whole, "low": None, "high": None, "no_interval": f"{len(groups)} groups are too few"}
    generator = np.random.default_rng(seed)
    drawn = []
    for _ in range(min(resamples, 2000)):
        some = [groups[at] for at in generator.integers(0, len(groups), len(groups))]
        drawn.append(alpha([unit for group in some for unit in group], order))
    known = [value for value in drawn if value is not None]
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2]) if known else (whole, whole)
    return {"mean": whole, "low": float(low), "high": float(high)}
