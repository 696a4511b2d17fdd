"""Rows with system turns are not trained with a template that would leave them out."""

import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from medsft.arguments import StudyArguments
from medsft.errors import UserError
from medsft.models import embedded, loading
from medsft.tokenization.chat_template import training_template
from medsft.training.dataset import check_system_turns, load_data

WITHOUT_SYSTEM = (
    "{%- for message in messages %}{%- if message['role'] == 'user' %}<|im_start|>{{ message['content'] }}"
    "{%- elif message['role'] == 'assistant' %}{%- generation %}{{ message['content'] }}<|im_end|>"
    "{%- endgeneration %}{%- endif %}{%- endfor %}"
)


@pytest.mark.parametrize(
    ("how", "rows", "refused"), [("keep", 3, True), ("keep", 0, False), ("merge", 3, False), ("drop", 3, False)]
)
def test_kept_system_turns_need_a_template_that_prints_them(how: str, rows: int, refused: bool) -> None:
    tokenizer = loading.load_tokenizer(embedded.SMOLLM2)
    report: Any = {"system_turns": {"rows": rows, "how": how, "text": ""}}
    check_system_turns(report, tokenizer, training_template(tokenizer), "m")  # its own prints them
    refusal = pytest.raises(UserError, match="for 'm' takes none; run prepare_data.py with --system_turns merge")
    with refusal if refused else nullcontext():
        check_system_turns(report, tokenizer, WITHOUT_SYSTEM, "m")


def test_a_report_from_before_there_were_system_turns_is_taken() -> None:
    tokenizer = loading.load_tokenizer(embedded.SMOLLM2)
    check_system_turns({}, tokenizer, WITHOUT_SYSTEM, "m")  # type: ignore[typeddict-item]


def test_a_split_of_another_models_tokens_is_refused(tiny_study: Path, tiny_model: Path, tmp_path: Path) -> None:
    """The tiny model has the tokenizer that the split was prepared with, by another name."""
    study = StudyArguments(study_dir=str(tiny_study))
    assert load_data(study, 512, embedded.SMOLLM2, None).longest <= 512
    tokenizer = loading.load_tokenizer(str(tiny_model))
    tokenizer.add_tokens(["pain", "doctor", "have", "you", "the"])  # as if its vocabulary had other words
    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    tokenizer.save_pretrained(other)
    with pytest.raises(UserError, match=f"another model's tokenizer.*--model_name_or_path {other}"):
        load_data(study, 512, str(other), None)
