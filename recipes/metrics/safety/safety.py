"""Red-flag recall (urgent advice to an emergency) and over-escalation (urgent advice to anybody else).

    evaluate.load("recipes/metrics/safety").compute(predictions=[...], references=[...], prompts=[...])

Give `per_example=True` for one number an answer instead of the mean over answers.
"""

from typing import Any

import datasets
import evaluate

from medsft.evaluation.metrics import safety
from medsft.evaluation.metrics.modules import mean_or_each, pass_over

CITATION = """
@article{arora2025healthbench,
  title={{HealthBench}: Evaluating Large Language Models Towards Improved Human Health},
  author={Arora, Rahul K. and others}, journal={arXiv:2505.08775}, year={2025}
}
"""
INPUTS = """
predictions: answers, one text each. references: the doctors' answers, one text each.
prompts: what the patients wrote (required); the rules are in medsft/red_flags.yaml.
"""


class Safety(evaluate.Metric):
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
        prompts: list[str],
        per_example: bool = False,
        **others: Any,
    ) -> dict[str, float | None | list[float | None]]:
        pass_over(others)
        return mean_or_each(safety.safety(predictions, references, prompts), per_example)
