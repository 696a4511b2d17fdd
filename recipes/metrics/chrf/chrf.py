"""chrF2 by sacrebleu, 0..100: of the whole corpus with its signature, or of each answer.

    evaluate.load("recipes/metrics/chrf").compute(predictions=[...], references=[...])

`per_example=True` gives one number per answer instead of the mean over answers.

Formula: F_2 = 5 P R / (4 P + R) of character n-grams, P and R averaged over n = 1 to 6. Of the corpus, or of each
    answer.
Direction: more (chrf)
Range: 0 to 100
Source: Popovic 2015; sacrebleu (Post 2018).
"""

import evaluate

from medsft.evaluation.metrics import modules, overlap

CITATION = r"""
@inproceedings{popovic2015chrf,
  title={chr{F}: character n-gram {F}-score for automatic {MT} evaluation},
  author={Popovi{\'c}, Maja},
  booktitle={Proceedings of the Tenth Workshop on Statistical Machine Translation},
  pages={392--395}, year={2015}
}
@inproceedings{post2018call,
  title={A Call for Clarity in Reporting {BLEU} Scores}, author={Post, Matt},
  booktitle={Proceedings of the Third Conference on Machine Translation}, pages={186--191},
  year={2018}
}
"""
INPUTS = """
predictions: answers, one text each. references: one text each, or a list of texts each, all equally long.
"""


class Chrf(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return modules.info(__doc__, CITATION, INPUTS, "https://github.com/mjpost/sacrebleu", several=True)

    def _compute(
        self,
        predictions: list[str],
        references: list[str] | list[list[str]],
        per_example: bool = False,
        **others: object,
    ) -> dict[str, object]:
        modules.refuse_unknown(others)
        several = [[r] if isinstance(r, str) else r for r in references]
        if per_example:
            return {"chrf": [*overlap.chrf(predictions, several)]}
        score, signature = overlap.corpus_chrf(predictions, several)
        return {"chrf": score, "chrf_signature": signature}
