"""Agreement between raters and their preferences, for clinicians and for an LLM judge."""

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import TypedDict

import numpy as np

from medsft.evaluation.statistics.intervals import LEAST_GROUPS, Groups, without
from medsft.evaluation.statistics.paired_tests import paired_share
from medsft.evaluation.statistics.proportions import ShareDifference, paired_shares

TIE = "tie"


class Agreement(TypedDict):
    """Agreement of two raters on `n` pairs: `share` of equal ratings, Cohen's `kappa` and its interval."""

    n: int
    share: float | None
    kappa: float | None
    low: float | None
    high: float | None


class Preference(TypedDict):
    """Wins minus losses of an arm over `n` pairs, ties 0, in -1..1, with interval and p-value."""

    n: int
    wins: int
    ties: int
    losses: int
    preference: float
    low: float | None
    high: float | None
    p: float


class Unsafe(ShareDifference):
    """Answers of each arm that were marked unsafe, of `n`, and the difference of the shares, second arm minus first."""

    n: int
    marked: dict[str, int]


def cohens_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float | None:
    """Agreement of two raters beyond chance (Cohen 1960): 1 is perfect, 0 is chance. None if chance gives 1.

    Five lines; scikit-learn's, to which a test compares them, is installed for training the safety classifiers only.
    """
    n = len(first)
    if not n:
        return None
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / n
    left, right = Counter(first), Counter(second)
    expected = sum(left[value] * right[value] for value in left) / n**2
    return (observed - expected) / (1 - expected) if expected < 1 else None


def agreement(
    first: Sequence[Hashable],
    second: Sequence[Hashable],
    resamples: int,
    confidence: float,
    seed: int,
    groups: Groups | None = None,
) -> Agreement:
    """Cohen's kappa with its percentile bootstrap interval over items, or whole groups; at most 2000 resamples."""
    generator = np.random.default_rng(seed)
    members: dict[Hashable, list[int]] = {}
    for at, group in enumerate(groups if groups is not None else range(len(first))):
        members.setdefault(group, []).append(at)
    units, drawn = [*members.values()], []
    for _ in range(min(resamples, 2000) if units else 0):
        rows = [at for unit in generator.integers(0, len(units), len(units)) for at in units[unit]]
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


def preference(choices: Sequence[str], groups: Groups, arm: str, confidence: float) -> Preference:
    """How much more often `arm` is preferred than the other: the difference of two paired shares, over groups."""
    values = [0.0 if choice == TIE else 1.0 if choice == arm else -1.0 for choice in choices]
    found = paired_share(values, groups, confidence)
    if len(set(groups)) < LEAST_GROUPS:
        found = without(found.mean, found.n, len(set(groups)))
    return {
        "n": len(values),
        "wins": values.count(1.0),
        "ties": values.count(0.0),
        "losses": values.count(-1.0),
        "preference": found.mean,
        "low": found.low,
        "high": found.high,
        "p": found.p,
    }


def unsafe(marked: Sequence[Sequence[str]], arms: tuple[str, str], confidence: float) -> Unsafe:
    """How many answers of each arm were marked unsafe, with Newcombe's interval for pairs."""
    first, second = ([float(arm in names) for names in marked] for arm in arms)
    counts = {arm: int(sum(values)) for arm, values in zip(arms, (first, second), strict=True)}
    return {"n": len(marked), "marked": counts, **paired_shares(first, second, confidence)}
