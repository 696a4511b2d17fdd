"""The token budget of a dialogue: the patient's side gives way, the doctor's answers and their end of turn never do."""

import re
from dataclasses import dataclass
from typing import Any

from medsft.chat_template import render

Message = dict[str, str]


@dataclass(frozen=True)
class Fitted:
    """Messages within the budget; `answer_tokens` carry loss, `prompt_tokens` are all others."""

    messages: list[Message]
    prompt_tokens: int
    answer_tokens: int
    shortened: bool

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.answer_tokens


def fit(tokenizer: Any, template: str, messages: list[Message], max_length: int) -> Fitted | None:
    """Shorten a dialogue to `max_length` tokens as the model reads it, template included.

    The oldest exchanges go first, then the start of the patient's message, at a word boundary. None where the last
    answer and one word of the patient's do not fit.
    """
    for start in range(0, len(messages), 2):
        fitted = _measure(tokenizer, template, messages[start:], shortened=start > 0)
        if fitted.tokens <= max_length:
            return fitted
    return _cut_patient(tokenizer, template, messages[-2:], max_length)


def _cut_patient(tokenizer: Any, template: str, messages: list[Message], max_length: int) -> Fitted | None:
    """The longest end of the patient's message that fits, by bisection over its words."""
    question, answer = messages
    starts = [match.start() for match in re.finditer(r"\S+", question["content"])]
    low, high, best = 1, len(starts) - 1, None
    while low <= high:
        middle = (low + high) // 2
        shorter = [{**question, "content": question["content"][starts[middle] :]}, answer]
        fitted = _measure(tokenizer, template, shorter, shortened=True)
        if fitted.tokens <= max_length:
            best, high = fitted, middle - 1
        else:
            low = middle + 1
    return best


def _measure(tokenizer: Any, template: str, messages: list[Message], shortened: bool) -> Fitted:
    rendered = render(tokenizer, messages, template)
    answer = sum(rendered.loss_mask)
    return Fitted(messages, len(rendered.input_ids) - answer, answer, shortened)
