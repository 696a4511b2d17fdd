"""Share of an answer's 8- and 13-grams that a training answer contains, and the longest copied run in words.

    evaluate.load("recipes/metrics/copying").compute(predictions=[...], references=[...], train=[...])

`per_example=True` gives one number per answer instead of the mean over answers.

Formula: copy_n: n-grams of the answer's words that a training answer has / all its n-grams, without boilerplate;
    longest_copy: words of the longest run that one training answer has, 0 below 8.
Direction: less (copy_8, copy_13, longest_copy)
Range: 0 to 1 (copy_8, copy_13); 0 and up (longest_copy)
Source: Carlini et al. 2023 for verbatim copies; 13 words as in Brown et al. 2020.
"""

import evaluate

from medsft.evaluation.metrics import copying, modules

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
        return modules.info(__doc__, CITATION, INPUTS)

    def _compute(
        self,
        predictions: list[str],
        references: list[str],
        train: list[str],
        per_example: bool = False,
        **others: object,
    ) -> dict[str, object]:
        modules.refuse_unknown(others)
        return modules.mean_or_each(copying.copying(predictions, train), per_example)
