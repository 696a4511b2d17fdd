"""ROUGE F-measures that courtesy and length cannot buy: `_stripped` of boilerplate, `_matched` in length.

    evaluate.load("recipes/metrics/rouge_corrected").compute(predictions=[...], references=[...])

Give `per_example=True` for one number an answer instead of the mean over answers.
"""

from typing import Any

import datasets
import evaluate

from medsft.evaluation.metrics import overlap
from medsft.evaluation.metrics.modules import mean_or_each, pass_over

CITATION = """
@inproceedings{lin2004rouge,
  title={{ROUGE}: A Package for Automatic Evaluation of Summaries}, author={Lin, Chin-Yew},
  booktitle={Text Summarization Branches Out}, pages={74--81}, year={2004}
}
"""
INPUTS = """
predictions: answers, one text each. references: the doctors' answers, one text each.
"""


class RougeCorrected(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=__doc__,
            citation=CITATION,
            inputs_description=INPUTS,
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
            reference_urls=[],
        )

    def _compute(
        self,
        predictions: list[str],
        references: list[str],
        per_example: bool = False,
        **others: Any,
    ) -> dict[str, float | list[float]]:
        pass_over(others)
        return mean_or_each(overlap.rouge_corrected(predictions, references), per_example)
