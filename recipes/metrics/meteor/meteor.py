"""METEOR of exact and stem matches by NLTK, 0..1. Synonyms do not match: WordNet would have to be downloaded.

    evaluate.load("recipes/metrics/meteor").compute(predictions=[...], references=[...])

`per_example=True` gives one number per answer instead of the mean over answers.

Formula: (1 - 0.5 (chunks / matches)^3) * P R / (0.9 P + 0.1 R) of words that match exactly or by their stem.
Direction: more (meteor)
Range: 0 to 1
Source: Banerjee and Lavie 2005; NLTK.
"""

import evaluate

from medsft.evaluation.metrics import modules, overlap

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
        return modules.info(__doc__, CITATION, INPUTS, "https://www.nltk.org/api/nltk.translate.meteor_score.html")

    def _compute(
        self,
        predictions: list[str],
        references: list[str],
        per_example: bool = False,
        **others: object,
    ) -> dict[str, object]:
        modules.refuse_unknown(others)
        return modules.mean_or_each({"meteor": overlap.meteor(predictions, references)}, per_example)
