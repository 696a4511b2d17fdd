"""ROUGE-1, -2, -L and -Lsum F-measures with precision and recall, 0..1, words stemmed unless told otherwise.

    evaluate.load("recipes/metrics/rouge").compute(predictions=[...], references=[...])

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
stem: Porter stemming of words over three letters (default true).
"""


class Rouge(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=__doc__,
            citation=CITATION,
            inputs_description=INPUTS,
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
            reference_urls=["https://github.com/google-research/google-research/tree/master/rouge"],
        )

    def _compute(
        self,
        predictions: list[str],
        references: list[str],
        per_example: bool = False,
        stem: bool = True,
        **others: Any,
    ) -> dict[str, float | list[float]]:
        pass_over(others)
        return mean_or_each(overlap.rouge(predictions, references, stem), per_example)
