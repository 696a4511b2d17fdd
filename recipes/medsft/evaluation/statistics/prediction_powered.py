"""A mean of human labels with the help of a model's: prediction-powered inference over groups.

Angelopoulos et al. (2023, Science 382) with the weight of PPI++ (arXiv:2311.01453): the mean of the model's labels over
the rows that only it read, plus the mean error of the model on the rows that people read too. A bias of the model
cancels, as it is measured on the labelled rows; a model without use gets the weight 0, and the people's mean stays.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple, TypedDict

import numpy as np
from scipy.special import stdtrit

from medsft.evaluation.statistics.intervals import LEAST_GROUPS


class Labelled(NamedTuple):
    """A row that a model labelled, and people too or not (None)."""

    group: Hashable
    model: float
    people: float | None


class Corrected(TypedDict):
    """The corrected `mean` with its interval, and beside it the means of the model alone and of the people alone."""

    mean: float
    low: float | None
    high: float | None
    labelled: int
    unlabelled: int
    weight: float
    model_alone: float
    people_alone: float


def corrected_mean(rows: Sequence[Labelled], confidence: float) -> Corrected | None:
    """The corrected mean. It has no interval below LEAST_GROUPS labelled groups; None without a labelled row.

    The labelled rows have to be drawn at random. The variance is that of the rows' influence, summed by group first,
    and the quantile Student's with one degree of freedom less than labelled groups.
    """
    both = [(row.group, row.model, row.people) for row in rows if row.people is not None]
    if not both:
        return None
    other = [(row.group, row.model) for row in rows if row.people is None]
    model, people = np.array([m for _, m, _ in both]), np.array([y for *_, y in both])
    rest = np.array([m for _, m in other])
    weight = tuned_weight(model, people, len(rest))
    residual = people - weight * model
    mean = float(residual.mean()) + (weight * float(rest.mean()) if len(rest) else 0.0)
    influence: dict[Hashable, float] = {}
    for (group, *_), value in zip(both, (residual - residual.mean()) / len(both), strict=True):
        influence[group] = influence.get(group, 0.0) + float(value)
    if len(rest):
        for (group, _), value in zip(other, weight * (rest - rest.mean()) / len(rest), strict=True):
            influence[group] = influence.get(group, 0.0) + float(value)
    found: Corrected = {
        "mean": mean,
        "low": None,
        "high": None,
        "labelled": len(both),
        "unlabelled": len(rest),
        "weight": weight,
        "model_alone": float(np.mean([*model, *rest])),
        "people_alone": float(people.mean()),
    }
    labelled_groups = len({group for group, *_ in both})
    if labelled_groups >= LEAST_GROUPS:
        half = _half_width(influence, labelled_groups, confidence)
        found["low"], found["high"] = mean - half, mean + half
    return found


def tuned_weight(model: np.ndarray, people: np.ndarray, unlabelled: int) -> float:
    """The weight of the model's labels that makes the variance least, within 0 and 1; 0 without unlabelled rows."""
    if not unlabelled or len(model) < 2 or np.ptp(model) == 0:
        return 0.0
    covariance = float(np.cov(model, people)[0, 1])
    return min(1.0, max(0.0, covariance / (float(model.var(ddof=1)) * (1 + len(model) / unlabelled))))


def _half_width(influence: Mapping[Hashable, float], labelled_groups: int, confidence: float) -> float:
    groups = len(influence)
    variance = groups / (groups - 1) * sum(value * value for value in influence.values())
    return float(stdtrit(labelled_groups - 1, (1 + confidence) / 2)) * float(np.sqrt(variance))
