"""ROUGE F-measures that courtesy and length cannot raise: `_stripped` of boilerplate, `_matched` in length.

    evaluate.load("recipes/metrics/rouge_corrected").compute(predictions=[...], references=[...])

`per_example=True` gives one number per answer instead of the mean over answers.
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
"""


class RougeCorrected(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return modules.info(__doc__, CITATION, INPUTS)

    def _compute(
        self,
        predictions: list[str],
        references: list[str],
        per_example: bool = False,
        **others: object,
    ) -> dict[str, object]:
        modules.refuse_unknown(others)
        return modules.mean_or_each(overlap.rouge_corrected(predictions, references), per_example)
