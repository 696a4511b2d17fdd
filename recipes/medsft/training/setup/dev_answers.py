"""A few dev rows are answered at each evaluation: logged beside the dev loss, and what a checkpoint may be chosen by.

The dev loss is low long before a small model stops its answers and stops repeating itself; only answers show that.
"""

import copy
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, cast

import torch

from medsft.arguments import StudyArguments
from medsft.config import nearest
from medsft.distributed.deepspeed_config import zero_stage
from medsft.errors import UserError
from medsft.records import Turn
from medsft.training.dataset import Data

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from trl import SFTConfig

MORE_IS_BETTER = {"rougeL": True, "rouge1": True, "end_of_turn": True, "loop": False}
# (model, tokenizer, rows, most new tokens) -> one value a row of each of these: evaluation.dev_answers.score
Scorer = Callable[["PreTrainedModel", "PreTrainedTokenizerBase", list[list[Turn]], int], dict[str, list[float]]]


class DevAnswers(NamedTuple):
    """What is answered at each evaluation, by how much at most, and how it is scored."""

    scorer: Scorer
    tokenizer: "PreTrainedTokenizerBase"
    rows: list[list[Turn]]
    max_new_tokens: int

    def measure(
        self, network: "PreTrainedModel", process: int, processes: int, device: torch.device
    ) -> dict[str, float]:
        """The mean of each metric over all rows; each process answers every so-manyth of them."""
        own = self.rows[process::processes]
        columns = self.scorer(network, self.tokenizer, own, self.max_new_tokens) if own else {}
        sums = [sum(columns.get(name, [])) for name in MORE_IS_BETTER]
        if processes > 1:
            together = torch.tensor(sums, dtype=torch.float64, device=device)
            torch.distributed.all_reduce(together)
            sums = together.tolist()
        return {name: total / len(self.rows) for name, total in zip(MORE_IS_BETTER, sums, strict=True)}


def check(study: StudyArguments, config: "SFTConfig") -> None:
    """Raise UserError for options that would answer nothing or choose by nothing; sets the Trainer's own of the choice.

    Under ZeRO-3 and FSDP no process has whole weights, and answering gathers them for each token.
    """
    if study.generate_rows < 0 or study.generate_tokens < 1:
        raise UserError("generate_rows must be at least 0, and generate_tokens at least 1")
    if study.choose_by and study.choose_by not in MORE_IS_BETTER:
        raise UserError(f"choose_by: '{study.choose_by}' is not known: {nearest(study.choose_by, MORE_IS_BETTER)}")
    if study.choose_by and not (study.generate_rows and config.load_best_model_at_end):
        raise UserError("choose_by needs generate_rows above 0, and load_best_model_at_end: true")
    if not study.generate_rows:
        return
    if config.eval_strategy == "no":
        raise UserError("generate_rows: rows are answered at each evaluation; set eval_strategy and eval_steps")
    if zero_stage(config) == 3 or config.fsdp or os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true":
        raise UserError("generate_rows: ZeRO-3 and FSDP gather the weights for every token; leave it out there")
    if study.choose_by:
        config.metric_for_best_model = f"eval_{study.choose_by}"
        config.greater_is_better = MORE_IS_BETTER[study.choose_by]


def of_study(study: StudyArguments, data: Data, scorer: Scorer | None) -> DevAnswers | None:
    """The first `generate_rows` dev rows, and the tokenizer as `generate.py` will load it; None where none is asked."""
    if not study.generate_rows or scorer is None:
        return None
    tokenizer = copy.deepcopy(data.tokenizer)
    tokenizer.padding_side, tokenizer.chat_template = "left", data.saved_template
    rows = cast("list[list[Turn]]", data.dev.select(range(min(study.generate_rows, len(data.dev))))["messages"])
    return DevAnswers(scorer, tokenizer, [*rows], study.generate_tokens)
