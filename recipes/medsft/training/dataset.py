"""The study's split as the trainer reads it: `messages`, the tokenizer, and which of its tokens carry loss."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from medsft.arguments import StudyArguments
from medsft.data.split_files import load_split
from medsft.errors import UserError
from medsft.files import fingerprint, read_json
from medsft.models import loading
from medsft.records import DataReport, Json
from medsft.tokenization import chat_template
from medsft.tokenization.system_turns import KEEP, of_report
from medsft.training.setup.rows_per_step import rows_per_step

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase
    from trl import SFTConfig

COMPARED = 16  # rows whose tokens are counted again for another model
Row = dict[str, list[int]]  # token ids and labels of one dialogue


class Data(NamedTuple):
    """The prepared rows as `messages`, and the tokenizer with its training template."""

    train: "Dataset"
    dev: "Dataset"
    tokenizer: "PreTrainedTokenizerBase"
    template: str
    saved_template: str
    answer_tokens: int
    tokens: int
    longest: int  # tokens of the longest row of train
    fingerprint: str


def load_data(study: StudyArguments, max_length: int | None, base_model: str, template_path: str | None) -> Data:
    """The study's split, ready for the trainer. Raises UserError where its answers would not fit `max_length`."""
    report: DataReport = read_json(Path(study.study_dir) / "data" / "data_report.json")
    prepared = report["arguments"]["max_length"]
    if max_length is not None and max_length < report["tokens"]["train"]["max"] and not study.truncate_answers:
        raise UserError(
            f"max_length {max_length} would cut answers: {study.study_dir}/data was prepared for {prepared} tokens; "
            f"run prepare_data.py with --max_length {max_length}, or train with --max_length {prepared}"
        )
    tokenizer = loading.load_tokenizer(base_model)
    own = None if template_path else tokenizer.chat_template
    template = chat_template.training_template(tokenizer, template_path)
    check_system_turns(report, tokenizer, template, base_model)
    if template_path is None and report["arguments"]["model_name_or_path"] != base_model:
        check_counts(study.study_dir, tokenizer, template, base_model)
    if study.double_bos:
        template = chat_template.with_second_bos(tokenizer, template)
    if not study.end_of_turn_loss:
        tokenizer.pad_token = tokenizer.eos_token  # like the source study, whose collator masks both
    tokenizer.chat_template = template
    train, dev = load_split(study.study_dir, "train"), load_split(study.study_dir, "dev")
    train = train.select(range(min(len(train), study.max_train_rows or len(train))))
    dev = dev.select(range(min(len(dev), study.max_dev_rows or len(dev))))
    answer_tokens = sum(train["answer_tokens"])
    return Data(
        train=train.select_columns("messages"),
        dev=dev.select_columns("messages"),
        tokenizer=tokenizer,
        template=template,
        saved_template=chat_template.saved_template(own, tokenizer, template),
        answer_tokens=answer_tokens,
        tokens=answer_tokens + sum(train["prompt_tokens"]),
        longest=max(map(sum, zip(train["answer_tokens"], train["prompt_tokens"], strict=True))),
        fingerprint=report["fingerprint"],
    )


def check_counts(study: str, tokenizer: "PreTrainedTokenizerBase", template: str, base_model: str) -> None:
    """Raise UserError where the split's rows have another number of tokens for this model than they were prepared with.

    Looks at the longest ones, which max_length would cut first.
    """
    train = load_split(study, "train")
    counted = [sum(both) for both in zip(train["answer_tokens"], train["prompt_tokens"], strict=True)]
    for row in sorted(range(len(train)), key=lambda at: -counted[at])[:COMPARED]:
        found = len(chat_template.render(tokenizer, train[row]["messages"], template).input_ids)
        if found != counted[row]:
            raise UserError(
                f"{study}/data was prepared with another model's tokenizer: a row of {counted[row]} tokens has {found} "
                f"for {base_model}; prepare it for this model: python recipes/prepare_data.py --study_dir {study} "
                f"--model_name_or_path {base_model}, or give another --study_dir"
            )


def check_system_turns(
    report: DataReport, tokenizer: "PreTrainedTokenizerBase", template: str, base_model: str
) -> None:
    """Raise UserError where the rows keep system turns and the template of this arm would print none of them."""
    kept = of_report(report)
    if kept["rows"] and kept["how"] == KEEP and not chat_template.prints_system(tokenizer, template):
        raise UserError(
            f"the prepared rows have system turns, and the chat template for '{base_model}' takes none; run "
            "prepare_data.py with --system_turns merge, or drop"
        )


def comparable(study: StudyArguments, config: "SFTConfig", data: Data) -> Json:
    """What must be equal in two arms that are compared: kept in train.json, checked by evaluation.comparability."""
    return {
        "data": data.fingerprint,
        "template": fingerprint(chat_template.inference_template(data.template)),
        "max_length": config.max_length,
        "train_rows": len(data.train),
        "rows_seen": _rows_seen(config, len(data.train)),
        "rows_per_step": rows_per_step(config),
        "loss_on": "the doctor's turns" if config.assistant_only_loss else "everything",
        "end_of_turn_loss": study.end_of_turn_loss,
        "truncate_answers": study.truncate_answers,
    }


class EndOfTurnUnsupervised:
    """A collator that takes the end of turn out of the labels: the effect of padding with EOS and masking the padding.

    A fault of the source study, kept to reproduce it: a model trained like this does not learn to stop.
    """

    def __init__(self, collator: Callable[[list[Row]], dict[str, torch.Tensor]], stop_ids: set[int]) -> None:
        self.collator, self.stop_ids = collator, sorted(stop_ids)

    def __call__(self, rows: list[Row]) -> dict[str, torch.Tensor]:
        batch = self.collator(rows)
        stops = torch.isin(batch["input_ids"], torch.tensor(self.stop_ids))
        batch["labels"] = batch["labels"].masked_fill(stops, -100)
        return batch


def _rows_seen(config: "SFTConfig", rows: int) -> int:
    """How many rows the run trains on, counting repetitions."""
    if config.max_steps < 0:
        return round(rows * config.num_train_epochs)
    return int(config.max_steps) * rows_per_step(config)
