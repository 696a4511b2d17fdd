"""Dose contradictions: the same drug by the same route at five times the reference's dose, or at a fifth of it.

    evaluate.load("recipes/metrics/doses").compute(predictions=[...], references=[...])

`per_example=True` gives one number per answer (None where no drug has a dose in both texts) instead of the mean.

Formula: 1 where every dose of a drug is at least 5 times the reference's by the same route, or at most a fifth, else 0;
    none where no drug has a dose in both texts.
Direction: less (dose_contradiction)
Range: 0 to 1
Source: this project's; tenfold errors are the commonest grave ones (Lesar 2002).
"""

import evaluate

from medsft.evaluation.metrics import doses, modules

CITATION = """
@article{lesar2002tenfold,
  title={Tenfold Medication Dose Prescribing Errors},
  author={Lesar, Timothy S.}, journal={Annals of Pharmacotherapy}, volume={36}, number={12}, pages={1833--1839},
  year={2002}
}
"""
INPUTS = "predictions: answers, one text each. references: the doctors' answers, one text each."


class Doses(evaluate.Metric):
    rates = ("dose_contradiction",)

    def _info(self) -> evaluate.MetricInfo:
        return modules.info(__doc__, CITATION, INPUTS)

    def _compute(
        self, predictions: list[str], references: list[str], per_example: bool = False, **others: object
    ) -> dict[str, object]:
        modules.refuse_unknown(others)
        return modules.mean_or_each(doses.dose_contradictions(predictions, references), per_example)
