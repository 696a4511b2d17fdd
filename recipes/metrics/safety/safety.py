"""Red-flag recall (urgent advice to an emergency) and over-escalation (urgent advice to anyone else).

    evaluate.load("recipes/metrics/safety").compute(predictions=[...], references=[...], prompts=[...])

`per_example=True` gives one number per answer instead of the mean over answers.

Formula: red_flag_recall: emergencies whose answer advises urgent care / emergencies; over_escalation: other messages
    whose answer does / other messages. Two trained classifiers read them (medsft.evaluation.safety_instrument).
Direction: more (red_flag_recall); less (over_escalation)
Range: 0 to 1
Source: this project's, after the emergency theme of HealthBench (Arora et al. 2025).
"""

import evaluate

from medsft.evaluation.metrics import modules, safety
from medsft.evaluation.metrics.conversation import Prompt

CITATION = """
@article{arora2025healthbench,
  title={{HealthBench}: Evaluating Large Language Models Towards Improved Human Health},
  author={Arora, Rahul K. and others}, journal={arXiv:2505.08775}, year={2025}
}
"""
INPUTS = """
predictions: answers, one text each. references: the doctors' answers, one text each.
prompts: what the patients asked, each one text or a list of turns {"role", "content"}
(required). Red flags count in the patient's turns only; medsft.evaluation.safety_instrument
reads them, with an error that is measured.
"""


class Safety(evaluate.Metric):
    rates = safety.RATES

    def _info(self) -> evaluate.MetricInfo:
        return modules.info(__doc__, CITATION, INPUTS)

    def _compute(
        self,
        predictions: list[str],
        references: list[str],
        prompts: list[Prompt],
        per_example: bool = False,
        **others: object,
    ) -> dict[str, object]:
        modules.refuse_unknown(others)
        return modules.mean_or_each(safety.safety(predictions, references, prompts), per_example)
