"""Calibrate the offline reading on statements that physicians labelled, and measure it on questions left out.

python -m medsft.evaluation.completeness.calibration labels.jsonl     # rewrites the shipped weights and their card
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medsft.evaluation.completeness import offline, validation
from medsft.evaluation.completeness.coverage import NAMES, Coverage, Pair, coverage
from medsft.evaluation.completeness.offline import Array, Weights
from medsft.evaluation.completeness.validation import Accuracy
from medsft.evaluation.metrics import bertscore
from medsft.evaluation.review import claim_judge
from medsft.evaluation.statistics.intervals import Resampling
from medsft.files import fingerprint, read_json, write_json
from medsft.models import embedded
from medsft.records import Json

PENALTY = 1.0  # of the squared coefficients, as scikit-learn's C = 1
STEPS = 50


def fit(features: Array, entailed: Array) -> Weights:
    """Logistic regression with an L2 penalty by Newton's method; `entailed` is 0 or 1 for each row.

    Ten lines: scikit-learn, to which a test compares it, is installed for development only.
    """
    means, scales = features.mean(0), features.std(0)
    scales = np.where(scales > 0, scales, 1.0)
    columns = np.column_stack([(features - means) / scales, np.ones(len(features))])
    penalty = np.diag([PENALTY] * features.shape[1] + [0.0])
    beta = np.zeros(columns.shape[1])
    for _ in range(STEPS):
        likely = 1 / (1 + np.exp(-columns @ beta))
        gradient = columns.T @ (entailed - likely) - penalty @ beta
        hessian = (columns * (likely * (1 - likely))[:, None]).T @ columns + penalty + 1e-9 * np.eye(len(beta))
        step = np.linalg.solve(hessian, gradient)
        beta = beta + step
        if np.abs(step).max() < 1e-9:
            break
    return Weights(means.tolist(), scales.tolist(), beta[:-1].tolist(), float(beta[-1]))


def with_threshold(covered: Coverage, entailed: Array) -> Weights:
    """The fitted weights, read as entailed as often as the physicians labelled it so on these rows.

    From 0.5 on the share would be too low (0.23 where physicians label 0.35): the rarer label is the less likely one.
    """
    weights = fit(covered.features, entailed)
    likely = np.sort(np.where(covered.negated, 0.0, offline.probabilities(weights, covered.features)))[::-1]
    count = int(entailed.sum())
    if not 0 < count < len(likely):
        return weights
    return weights._replace(threshold=float(likely[count - 1] + likely[count]) / 2)


def left_out(covered: Coverage, entailed: Array, questions: Sequence[str]) -> list[str]:
    """The verdict on each row by weights that were fitted without any row of its question."""
    asked = np.array(questions)
    found = np.empty(len(asked), dtype=object)
    for question in sorted(set(questions)):
        inside = asked == question
        others = Coverage(covered.features[~inside], covered.negated[~inside])
        weights = with_threshold(others, entailed[~inside])
        found[inside] = offline.verdicts(weights, Coverage(covered.features[inside], covered.negated[inside]))
    return [str(verdict) for verdict in found]


def measure_offline(rows: Sequence[Json], resampling: Resampling) -> tuple[Accuracy, str]:
    """The accuracy of the offline reading on labelled rows, and on what it was measured.

    Where the shipped weights were fitted on any of these questions, the verdicts are those of weights fitted anew on
    the other questions of the file: no row is read by weights that saw it.
    """
    encoder = bertscore.load_encoder(embedded.MINILM, None)
    if {fingerprint(row["question"]) for row in rows} & {*read_json(offline.FILE)["card"]["questions"]}:
        card = calibrate(rows, encoder, resampling)["card"]
        return card["accuracy"], card["measured"]
    pairs = [Pair(row["question"], row["answer"], row["claim"]) for row in rows]
    found = validation.measure(rows, offline.read(pairs, encoder), resampling, contradictions=False)
    return found, "by the shipped weights, which saw none of these questions"


def calibrate(rows: Sequence[Json], encoder: bertscore.Encoder, resampling: Resampling) -> Json:
    """The weights fitted on all rows that most physicians agree on, and a card with the figures of left-out ones."""
    labelled = [row for row in rows if claim_judge.majority(row.get("physicians", []))]
    pairs = [Pair(row["question"], row["answer"], row["claim"]) for row in labelled]
    covered = coverage(pairs, encoder)
    best = [claim_judge.majority(row["physicians"]) for row in labelled]
    entailed = np.array([label == offline.ENTAILED for label in best], dtype=float)
    verdicts = left_out(covered, entailed, [row["question"] for row in labelled])
    measured = validation.measure(labelled, verdicts, resampling, contradictions=False)
    return {
        "weights": with_threshold(covered, entailed)._asdict(),
        "card": {
            "features": [*NAMES],
            "rule": "a statement whose best sentence has a negation too many or too few is not entailed",
            "encoder": encoder.hash,
            "measured": "on questions left out of the fit, one at a time",
            "accuracy": measured,
            "questions": sorted({fingerprint(row["question"]) for row in labelled}),
        },
    }


if __name__ == "__main__":
    made = calibrate(
        claim_judge.read(Path(sys.argv[1])), bertscore.load_encoder(embedded.MINILM, None), Resampling(2000, 0.95, 0)
    )
    write_json(offline.FILE, made)
    print("\n".join(validation.sentences("offline reading", made["card"]["accuracy"])))
