"""Length ratio, distinct-n, loops, boilerplate, invented identities and reading grade of answers.

    evaluate.load("recipes/metrics/behaviour").compute(predictions=[...], references=[...])

Give `per_example=True` for one number an answer instead of the mean over answers.
"""

from typing import Any

import datasets
import evaluate

from medsft.evaluation.metrics import behaviour
from medsft.evaluation.metrics.modules import mean_or_each, pass_over

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
prompts: what the patients wrote; an identity that stands there already is not invented.
stopped: true where the model ended its own turn, which adds `end_of_turn`.
"""


class Behaviour(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=__doc__,
            citation=CITATION,
            inputs_description=INPUTS,
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
            reference_urls=[],
        )

    def _compute(
        self,
        predictions: list[str],
        references: list[str],
        per_example: bool = False,
        prompts: list[str] | None = None,
        stopped: list[bool] | None = None,
        **others: Any,
    ) -> dict[str, float | None | list[float | None]]:
        pass_over(others)
        columns = behaviour.behaviour(predictions, references, prompts)
        if stopped is not None:
            columns["end_of_turn"] = [*behaviour.end_of_turn(stopped)]
        return mean_or_each(columns, per_example)
