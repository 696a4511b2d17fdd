"""Training seeds as a source of chance: arms named lora, lora_seed1, lora_seed2 are one method trained three times."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from medsft.evaluation.statistics.intervals import LEAST_GROUPS, Groups, Values, group_totals
from medsft.evaluation.statistics.paired_tests import common_rows, holm
from medsft.evaluation.statistics.studentised import Array, jackknife_error
from medsft.records import SampledInterval, ScoreRow
from medsft.result_records import SeedChange
from medsft.text import method_of


def methods(arms: Sequence[str]) -> dict[str, list[str]]:
    """Arms by method, for every method that was trained with two seeds or more."""
    by_method: dict[str, list[str]] = {}
    for arm in arms:
        by_method.setdefault(method_of(arm), []).append(arm)
    return {method: names for method, names in by_method.items() if len(names) > 1}


class OverSeeds(NamedTuple):
    """Mean over training seeds and rows with its interval and p-value; `p` is 1 without an interval."""

    mean: float
    low: float | None
    high: float | None
    p: float


def mean_over_seeds(sums: Array, counts: Array, confidence: float) -> OverSeeds:
    """Mean over seeds and rows of a method, as a claim about other seeds and other patients.

    `sums` is (groups, seeds), `counts` (groups,): every seed answered the same rows. Seeds and groups are both random.
    The half-width adds two of Student's in quadrature, that of the seeds' means and that of the groups, after Graybill
    and Wang (1980). It covers 95 % or more with two, three and five seeds whatever their spread is; a bootstrap over
    seeds covered 67, 78 and 87 % where the seeds' spread dominates (tests/bench/statistics.py). Two seeds are so few
    that the interval is very wide.
    """
    from scipy.special import stdtrit

    groups, seeds = sums.shape
    means = sums.sum(axis=0) / counts.sum()
    mean = float(means.mean())
    if seeds < 2 or groups < LEAST_GROUPS:
        return OverSeeds(mean, None, None, 1.0)
    of_seeds = float(means.std(ddof=1)) / np.sqrt(seeds)
    of_groups = float(jackknife_error(sums.mean(axis=1)[:, None], counts[:, None], np.array([mean]))[0])

    def half_width(level: float) -> float:
        quantiles = stdtrit([seeds - 1, groups - 1], (1 + level) / 2)
        return float(np.hypot(quantiles[0] * of_seeds, quantiles[1] * of_groups))

    low, high = 0.0, 1.0  # the level at which the interval ends at 0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if half_width(middle) < abs(mean) else (low, middle)
    half = half_width(confidence)
    return OverSeeds(mean, mean - half, mean + half, 1 - low if mean else 1.0)


def compare_methods(
    arms: Mapping[str, list[ScoreRow]],
    baseline: str,
    metrics: Sequence[str],
    confidence: float,
) -> list[SeedChange]:
    """Each method with several seeds minus the baseline, over the rows that the baseline and every seed have.

    `p_holm` is over all of these together.
    """
    found: list[SeedChange] = []
    for method, names in methods([arm for arm in arms if arms.get(baseline) and arm != baseline]).items():
        pairs = {
            name: {after["id"]: (before, after) for before, after in common_rows(arms[baseline], arms[name])}
            for name in names
        }
        shared = [row["id"] for row in arms[names[0]] if all(row["id"] in by_id for by_id in pairs.values())]
        groups = [pairs[names[0]][row_id][1]["group"] for row_id in shared]
        for metric in metrics:
            columns = {name: [_difference(*by_id[i], metric) for i in shared] for name, by_id in pairs.items()}
            tested = over_seeds(columns, groups, confidence)
            if tested is None:
                continue
            over, p = tested
            found.append(
                {
                    "metric": metric,
                    "method": method,
                    "baseline": baseline,
                    "seeds": len(names),
                    "n": over["n"],
                    "difference": over["mean"],
                    "low": over["low"],
                    "high": over["high"],
                    "p": p,
                    "p_holm": 1.0,
                    "spread": over["spread"],
                    "by_arm": over["by_seed"],
                }
            )
    for row, p_holm in zip(found, holm([row["p"] for row in found]), strict=True):
        row["p_holm"] = p_holm
    return found


def _difference(before: ScoreRow, after: ScoreRow, metric: str) -> float | None:
    """None where the metric is not defined for the row, or was not measured for it."""
    one, other = before.get(metric), after.get(metric)
    return None if one is None or other is None else other - one


def over_seeds(
    columns: Mapping[str, Values], groups: Groups, confidence: float
) -> tuple[SampledInterval, float] | None:
    """The mean over seeds and rows with its interval over both, and the p-value of a mean of 0.

    `columns` has one list of values per seed, over the same rows. A row counts where every seed has a value. None where
    no row does.
    """
    known = [at for at, values in enumerate(zip(*columns.values(), strict=True)) if None not in values]
    if not known:
        return None
    sums, counts = group_totals(
        {name: [values[at] for at in known] for name, values in columns.items()}, [groups[at] for at in known]
    )
    found = mean_over_seeds(sums, counts[:, 0], confidence)
    each = sums.sum(axis=0) / counts.sum(axis=0)
    interval: SampledInterval = {
        "n": len(known),
        "mean": found.mean,
        "low": found.low,
        "high": found.high,
        "spread": float(each.std(ddof=1)) if len(each) > 1 else 0.0,
        "by_seed": {name: float(value) for name, value in zip(columns, each, strict=True)},
    }
    if found.low is None:
        interval["no_interval"] = f"{len(each)} seeds and {len(sums)} groups; it takes 2 and {LEAST_GROUPS}"
    return interval, found.p
