"""METEOR of exact and stem matches by NLTK, 0..1. Synonyms do not match: WordNet would have to be downloaded.

    evaluate.load("recipes/metrics/meteor").compute(predictions=[...], references=[...])

Give `per_example=True` for one number an answer instead of the mean over answers.
"""

from typing import Any

import datasets
import evaluate

from medsft.evaluation.metrics import overlap
from medsft.evaluation.metrics.modules import mean_or_each, pass_over

CITATION = """
@inproceedings{banerjee2005meteor,
  title={{METEOR}: An Automatic Metric for {MT} Evaluation with Improved Correlation with Human Judgments},
  author={Banerjee, Satanjeev and Lavie, Alon},
  booktitle={Proceedings of the ACL Workshop on Intrinsic and Extrinsic Evaluation Measures},
  pages={65--72}, year={2005}
}
"""
INPUTS = """
predictions: answers, one text each. references: the doctors' answers, one text each.
"""


class Meteor(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=__doc__,
            citation=CITATION,
            inputs_description=INPUTS,
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
            reference_urls=["https://www.nltk.org/api/nltk.translate.meteor_score.html"],
        )

    def _compute(
        self,
        predictions: list[str],
        references: list[str],
        per_example: bool = False,
        **others: Any,
    ) -> dict[str, float | list[float]]:
        pass_over(others)
        return mean_or_each({"meteor": overlap.meteor(predictions, references)}, per_example)
