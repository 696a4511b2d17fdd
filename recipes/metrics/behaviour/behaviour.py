"""Length ratio, distinct-n, loops, boilerplate, invented identities and reading grade of answers.

    evaluate.load("recipes/metrics/behaviour").compute(predictions=[...], references=[...])

`per_example=True` gives one number per answer instead of the mean over answers.
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
