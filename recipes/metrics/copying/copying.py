"""Share of an answer's 8- and 13-grams that stand in one training answer, and the longest such run in words.

    evaluate.load("recipes/metrics/copying").compute(predictions=[...], references=[...], train=[...])

Give `per_example=True` for one number an answer instead of the mean over answers.
"""

from typing import Any

import datasets
import evaluate

from medsft.evaluation.metrics import copying
from medsft.evaluation.metrics.modules import mean_or_each, pass_over

CITATION = r"""
@inproceedings{carlini2023quantifying,
  title={Quantifying Memorization Across Neural Language Models},
  author={Carlini, Nicholas and Ippolito, Daphne and Jagielski, Matthew
    and Lee, Katherine and Tram{\`e}r, Florian and Zhang, Chiyuan},
  booktitle={International Conference on Learning Representations}, year={2023}
}
"""
INPUTS = """
predictions: answers, one text each. references: the doctors' answers, one text each.
train: the doctors' answers of the training rows (required).
"""


class Copying(evaluate.Metric):
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
        train: list[str],
        per_example: bool = False,
        **others: Any,
    ) -> dict[str, float | list[float]]:
        pass_over(others)
        return mean_or_each(copying.copying(predictions, train), per_example)
