"""Entailment without a judge: a logistic regression on an answer's coverage of a statement, calibrated on labels.

It tells what is said from what is not. It cannot tell a contradiction from silence and claims none: its verdicts are
Entailment and Neutral. A statement whose best sentence has a negation too many or too few is never entailed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medsft.evaluation.completeness.coverage import Coverage, Pair, coverage
from medsft.files import read_json

if TYPE_CHECKING:
    from medsft.evaluation.metrics.bertscore import Encoder

FILE = Path(__file__).parent / "weights" / "offline.json"
ENTAILED, NOT_ENTAILED = "Entailment", "Neutral"
Array = NDArray[np.float64]


class Weights(NamedTuple):
    """Log-odds of entailment: `intercept` plus `coefficients` times the standardised features.

    `threshold`: the probability from which on a statement is read as entailed.
    """

    means: list[float]
    scales: list[float]
    coefficients: list[float]
    intercept: float
    threshold: float = 0.5


def load() -> Weights:
    """The shipped weights. What they were calibrated on, and how well, stands in the same file (`card`)."""
    return Weights(**read_json(FILE)["weights"])


def probabilities(weights: Weights, features: Array) -> Array:
    """Probability of entailment of each row of features."""
    scaled = (features - np.array(weights.means)) / np.array(weights.scales)
    found: Array = 1 / (1 + np.exp(-(scaled @ np.array(weights.coefficients) + weights.intercept)))
    return found


def verdicts(weights: Weights, covered: Coverage) -> list[str]:
    """Entailment or Neutral for each pair."""
    said = (probabilities(weights, covered.features) >= weights.threshold) & ~covered.negated
    return [ENTAILED if value else NOT_ENTAILED for value in said]


def read(pairs: Sequence[Pair], encoder: "Encoder") -> list[str]:
    """The verdict on every pair by the shipped weights."""
    return verdicts(load(), coverage(pairs, encoder)) if pairs else []
