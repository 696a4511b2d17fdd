"""ROUGE-1, -2, -L and -Lsum F-measures with precision and recall, 0..1, words stemmed by default.

    evaluate.load("recipes/metrics/rouge").compute(predictions=[...], references=[...])

`per_example=True` gives one number per answer instead of the mean over answers.

Formula: F = 2 P R / (P + R) of the n-grams (1, 2) or the longest common subsequence (L; Lsum: by sentence) that answer
    and reference share; P is their share of the answer's, R of the reference's.
Direction: more (rouge1, rouge2, rougeL, rougeLsum, each also with _precision and _recall)
Range: 0 to 1
Source: Lin 2004; rouge_score of Google Research.
"""

import evaluate

from medsft.evaluation.metrics import modules, overlap

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
        return modules.info(
            __doc__, CITATION, INPUTS, "https://github.com/google-research/google-research/tree/master/rouge"
        )

    def _compute(
        self,
        predictions: list[str],
        references: list[str],
        per_example: bool = False,
        stem: bool = True,
        **others: object,
    ) -> dict[str, object]:
        modules.refuse_unknown(others)
        return modules.mean_or_each(overlap.rouge(predictions, references, stem), per_example)
