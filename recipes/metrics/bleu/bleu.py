"""BLEU by sacrebleu, 0..100: of the whole corpus with its signature, or of each answer.

    evaluate.load("recipes/metrics/bleu").compute(predictions=[...], references=[...])

`per_example=True` gives one number per answer instead of the mean over answers.

Formula: brevity penalty * exp(mean of ln p_n), p_n the share of the answer's n-grams (1 to 4) in a reference. Of the
    corpus: p_n over all answers together. Of each answer: its own p_n, zeros smoothed, and only the orders that it is
    long enough for; the mean of these is no corpus BLEU. score.py gives both, as `bleu` (mean) and `corpus_bleu`.
Direction: more (bleu)
Range: 0 to 100
Source: Papineni et al. 2002; sacrebleu (Post 2018).
"""

import evaluate

from medsft.evaluation.metrics import modules, overlap

CITATION = """
@inproceedings{papineni2002bleu,
  title={{BLEU}: a Method for Automatic Evaluation of Machine Translation},
  author={Papineni, Kishore and Roukos, Salim and Ward, Todd and Zhu, Wei-Jing},
  booktitle={Proceedings of ACL}, pages={311--318}, year={2002}
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


class Bleu(evaluate.Metric):
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
            return {"bleu": [*overlap.bleu(predictions, several)]}
        whole, signature = overlap.corpus_bleu(predictions, several)
        parts = {"bleu_precisions": whole.precisions, "bleu_brevity_penalty": whole.bp}
        return {"bleu": whole.score, **parts, "bleu_signature": signature}
