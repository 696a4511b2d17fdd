"""Training seeds as a source of chance: arms named lora, lora_seed1, lora_seed2 are one method trained three times."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from medsft.evaluation.statistics.intervals import Array, Groups, Values, draw_groups, group_totals, multiplicities
from medsft.evaluation.statistics.paired_tests import common_rows
from medsft.records import SampledInterval, ScoreRow
from medsft.result_records import SeedChange

SEED_SUFFIX = re.compile(r"_seed_?\d+\Z")


def methods(arms: Sequence[str]) -> dict[str, list[str]]:
    """Arms by method, for every method that was trained with two seeds or more."""
    by_method: dict[str, list[str]] = {}
    for arm in arms:
        by_method.setdefault(SEED_SUFFIX.sub("", arm), []).append(arm)
    return {method: names for method, names in by_method.items() if len(names) > 1}


def hierarchical_means(sums: Array, counts: Array, resamples: int, seed: int) -> Array:
    """Resampled means over training seeds and groups, shape (resamples,): seeds are drawn, and groups are drawn.

    `sums` is (seeds, groups), `counts` (groups,): every seed answered the same rows. Both levels are drawn with
    replacement (Davison and Hinkley 1997, section 3.8), so the interval covers what another training seed would change.
    With two or three seeds it is still too narrow, because so few seeds show little of their spread.
    """
    generator = np.random.default_rng([seed, len(sums)])
    means = []
    for drawn in draw_groups(len(counts), resamples, seed):
        weights = multiplicities(drawn, len(counts))
        by_seed = (weights @ sums.T) / (weights @ counts)[:, None]
        seeds = generator.integers(0, len(sums), size=by_seed.shape)
        means.append(np.take_along_axis(by_seed, seeds, axis=1).mean(axis=1))
    return np.concatenate(means)


def compare_methods(
    arms: Mapping[str, list[ScoreRow]],
    baseline: str,
    metrics: Sequence[str],
    resamples: int,
    confidence: float,
    seed: int,
) -> list[SeedChange]:
    """Each method with several seeds minus the baseline, over the rows that the baseline and every seed have."""
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
            over = over_seeds(columns, groups, resamples, confidence, seed)
            if over is None:
                continue
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
                    "spread": over["spread"],
                    "by_arm": over["by_seed"],
                }
            )
    return found


def _difference(before: ScoreRow, after: ScoreRow, metric: str) -> float | None:
    """None where the metric is not defined for the row, or was not measured for it."""
    one, other = before.get(metric), after.get(metric)
    return None if one is None or other is None else other - one


def over_seeds(
    columns: Mapping[str, Values], groups: Groups, resamples: int, confidence: float, seed: int
) -> SampledInterval | None:
    """The mean over seeds and rows, with its interval over both.

    `columns` has one list of values per seed, over the same rows. A row counts where every seed has a value. None where
    no row does.
    """
    known = [at for at, values in enumerate(zip(*columns.values(), strict=True)) if None not in values]
    if not known:
        return None
    sums, counts = group_totals(
        {name: [values[at] for at in known] for name, values in columns.items()}, [groups[at] for at in known]
    )
    means = hierarchical_means(sums.T, counts[:, 0], resamples, seed)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    each = sums.sum(axis=0) / counts.sum(axis=0)
    return {
        "n": len(known),
        "mean": float(each.mean()),
        "low": float(low),
        "high": float(high),
        "spread": float(each.std(ddof=1)) if len(each) > 1 else 0.0,
        "by_seed": {name: float(value) for name, value in zip(columns, each, strict=True)},
    }
