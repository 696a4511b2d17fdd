"""ROUGE F-measures that courtesy cannot raise (`_stripped`), nor length (`_matched`, `_equal`).

    evaluate.load("recipes/metrics/rouge_corrected").compute(predictions=[...], references=[...])

`per_example=True` gives one number per answer instead of the mean over answers.

Formula: ROUGE F of changed texts. _stripped: boilerplate sentences out of both sides; _matched: the answer cut to the
    reference's number of words; _equal: the longer of the two cut to the shorter's.
Direction: more (rouge1, rouge2, rougeL, each with _stripped, _matched and _equal)
Range: 0 to 1
Source: Lin 2004; the changes are this project's.
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
