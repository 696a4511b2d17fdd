"""Length ratio, distinct-n, loops, boilerplate, invented identities and reading grade of answers.

    evaluate.load("recipes/metrics/behaviour").compute(predictions=[...], references=[...])

`per_example=True` gives one number per answer instead of the mean over answers.

Formula: length_ratio: words of the answer / words of the reference (the ratio of means is score.py's
    `length_ratio_of_means`); words, reference_words: their numbers; distinct_n: different n-grams / n-grams of the
    answer; loop: 1 where a phrase of 1 to 40 words comes three times in a row, over 8 words or more; boilerplate: 1
    where a sentence is courtesy, advert or disclaimer; identity: 1 where the answer has a name, link, address or number
    that the prompt has not; end_of_turn: 1 where the model ended its own turn; reading_grade: 0.0588 L - 0.296 S -
    15.8, L letters and S sentences per 100 words.
Direction: more (distinct_1, distinct_2, end_of_turn); less (loop, boilerplate, identity); neither (length_ratio, words,
    reference_words, reading_grade)
Range: 0 to 1 (distinct_1, distinct_2, end_of_turn, loop, boilerplate, identity); 0 and up (length_ratio, words,
    reference_words); any (reading_grade)
Source: Li et al. 2016 (distinct-n); Coleman and Liau 1975 (reading grade); the others are this project's.
"""

import evaluate

from medsft.evaluation.metrics import behaviour, modules
from medsft.evaluation.metrics.conversation import Prompt

CITATION = """
@inproceedings{li2016diversity,
  title={A Diversity-Promoting Objective Function for Neural Conversation Models},
  author={Li, Jiwei and Galley, Michel and Brockett, Chris and Gao, Jianfeng and Dolan, Bill},
  booktitle={Proceedings of NAACL-HLT}, pages={110--119}, year={2016}
}
@article{coleman1975computer,
  title={A computer readability formula designed for machine scoring},
  author={Coleman, Meri and Liau, T. L.},
  journal={Journal of Applied Psychology}, volume={60}, number={2}, pages={283--284}, year={1975}
}
"""
INPUTS = """
predictions: answers, one text each. references: the doctors' answers, one text each.
prompts: what the patients asked, each one text or a list of turns {"role", "content"};
an identity that is already there is not invented.
stopped: true where the model ended its own turn, which adds `end_of_turn`.
"""


class Behaviour(evaluate.Metric):
    rates = behaviour.RATES

    def _info(self) -> evaluate.MetricInfo:
        return modules.info(__doc__, CITATION, INPUTS)

    def _compute(
        self,
        predictions: list[str],
        references: list[str],
        per_example: bool = False,
        prompts: list[Prompt] | None = None,
        stopped: list[bool] | None = None,
        **others: object,
    ) -> dict[str, object]:
        modules.refuse_unknown(others)
        columns = behaviour.behaviour(predictions, references, prompts)
        if stopped is not None:
            columns["end_of_turn"] = [*behaviour.end_of_turn(stopped)]
        return modules.mean_or_each(columns, per_example)
