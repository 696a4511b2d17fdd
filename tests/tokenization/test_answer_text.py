"""What is shown of an answer: no channel, no thought, no control token."""

from typing import Any

import pytest

from medsft.models import embedded, loading
from medsft.tokenization.answer_text import answer_text


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    made = loading.load_tokenizer(embedded.SMOLLM2)
    made.add_special_tokens({"additional_special_tokens": ["<|channel|>", "<|message|>", "<|return|>", "<|start|>"]})
    made.add_tokens(["<think>", "</think>"])
    return made


@pytest.mark.parametrize(
    ("produced", "shown"),
    [
        ("Rest helps<|im_end|>", "Rest helps"),
        ("<|channel|>final<|message|>Rest helps<|return|>", "Rest helps"),
        (
            "<|channel|>analysis<|message|>A cold.<|im_end|><|start|>assistant<|channel|>final<|message|>Rest.",
            "Rest.",
        ),
        ("<think>\nA cold.\n</think>\n\nRest helps<|im_end|>", "Rest helps"),
        ("A cold.\n</think>\n\nRest helps", "Rest helps"),  # the prompt had opened the thought
        ("<think>\nA cold, or perhaps", "<think>\nA cold, or perhaps"),  # cut by max_new_tokens: all there is
        ("The channel is final.", "The channel is final."),
    ],
)
def test_only_what_is_said_to_the_patient_is_shown(tokenizer: Any, produced: str, shown: str) -> None:
    assert answer_text(tokenizer, tokenizer(produced, add_special_tokens=False)["input_ids"]) == shown
