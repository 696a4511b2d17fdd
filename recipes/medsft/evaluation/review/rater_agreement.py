"""Do raters agree, and which arm do they prefer? For clinicians' sheets and for an LLM judge alike."""

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from medsft.evaluation.statistics.paired_tests import bootstrap_interval, randomisation_test
from medsft.evaluation.statistics.proportions import paired_shares

TIE = "tie"


def cohens_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float | None:
    """Agreement of two raters beyond chance (Cohen 1960): 1 whole, 0 as by chance. None where chance agrees wholly."""
    n = len(first)
    if not n:
        return None
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / n
    left, right = Counter(first), Counter(second)
    expected = sum(left[value] * right[value] for value in left) / n**2
    return (observed - expected) / (1 - expected) if expected < 1 else None


def agreement(
    first: Sequence[Hashable], second: Sequence[Hashable], resamples: int, confidence: float, seed: int
) -> dict[str, Any]:
    """`n`, `share` of equal ratings, and `kappa` with its percentile bootstrap interval over items."""
    generator = np.random.default_rng(seed)
    drawn = []
    for _ in range(min(resamples, 2000) if len(first) else 0):
        rows = generator.integers(0, len(first), len(first))
        drawn.append(cohens_kappa([first[i] for i in rows], [second[i] for i in rows]))
    known = [value for value in drawn if value is not None]
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2]) if known else (None, None)
    share = sum(a == b for a, b in zip(first, second, strict=True)) / len(first) if len(first) else None
    return {
        "n": len(first),
        "share": share,
        "kappa": cohens_kappa(first, second),
        "low": None if low is None else float(low),
        "high": None if high is None else float(high),
    }


def preference(
    choices: Sequence[str], groups: Sequence[Any], arm: str, resamples: int, confidence: float, seed: int
) -> dict[str, Any]:
    """How much more often `arm` is preferred than the other: wins minus losses over pairs, ties 0, in -1..1.

    With the same bootstrap over groups and the same sign flips as every other paired comparison.
    """
    values = [0.0 if choice == TIE else 1.0 if choice == arm else -1.0 for choice in choices]
    mean, low, high = bootstrap_interval(values, groups, resamples, confidence, seed)
    counts = {"wins": values.count(1.0), "ties": values.count(0.0), "losses": values.count(-1.0)}
    p = randomisation_test(values, groups, resamples, seed)
    return {"n": len(values), **counts, "preference": mean, "low": low, "high": high, "p": p}


def unsafe(marked: Sequence[Sequence[str]], arms: tuple[str, str], confidence: float) -> dict[str, Any]:
    """How many answers of each of two arms were marked unsafe, of `n`, and the difference of the shares (second minus
    first) with Newcombe's interval for pairs.
    """
    first, second = ([float(arm in names) for names in marked] for arm in arms)
    counts = {arm: int(sum(values)) for arm, values in zip(arms, (first, second), strict=True)}
    return {"n": len(marked), "marked": counts, **paired_shares(first, second, confidence)}
