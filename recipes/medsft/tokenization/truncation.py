"""The token budget of a dialogue: the patient's side gives way, the doctor's answers and their end of turn never do."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from medsft.tokenization.chat_template import render
from medsft.tokenization.control_tokens import as_text

Message = dict[str, str]


@dataclass(frozen=True)
class Fitted:
    """Messages within the budget; `answer_tokens` carry loss, `prompt_tokens` are all others.

    `broken` is set by `fit` where a speaker had typed a control token.
    """

    messages: list[Message]
    prompt_tokens: int
    answer_tokens: int
    shortened: bool
    broken: bool = False

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.answer_tokens


def fit(tokenizer: Any, template: str, messages: list[Message], max_length: int) -> Fitted | None:
    """Shorten a dialogue to `max_length` tokens as the model reads it, template included; control tokens in a
    speaker's words are broken first.

    The oldest exchanges go first, then the start of the patient's message, at a word boundary. None where the last
    answer and one word of the patient's do not fit.
    """
    given, messages = messages, as_text(tokenizer, messages)
    fitted = _shortened(tokenizer, template, messages, max_length)
    return replace(fitted, broken=messages != given) if fitted else None


def _shortened(tokenizer: Any, template: str, messages: list[Message], max_length: int) -> Fitted | None:
    exchanges = len(messages) // 2

    def from_exchange(start: int) -> Fitted:
        return _measure(tokenizer, template, messages[2 * start :], shortened=start > 0)

    fitted = _first_that_fits(from_exchange, exchanges, max_length)
    if fitted is not None:
        return fitted
    question, answer = messages[-2:]
    asked = question["content"].rstrip()  # blank lines at its end would take the place of its words
    words = [match.start() for match in re.finditer(r"\S+", asked)]

    def from_word(start: int) -> Fitted:
        shorter = {**question, "content": asked[words[start] :]}
        return _measure(tokenizer, template, [shorter, answer], shortened=True)

    return _first_that_fits(from_word, len(words), max_length)


def _first_that_fits(cut_at: Callable[[int], Fitted], size: int, max_length: int) -> Fitted | None:
    """The longest rest of a dialogue that fits, by interpolation over where it may start; the whole is tried first.

    What lies between two tried places is taken to be of even length, so two or three places are tried instead of the
    ten of a bisection; each place tried narrows the search, so it ends at the same place.
    """
    whole = cut_at(0)
    if whole.tokens <= max_length:
        return whole
    low, high, best = 1, size - 1, None
    most, least = whole.tokens, 0
    while low <= high:
        share = (most - max_length) / max(1, most - least)
        middle = min(high, max(low, low + int(share * (high - low + 1))))
        fitted = cut_at(middle)
        if fitted.tokens <= max_length:
            best, high, least = fitted, middle - 1, fitted.tokens
        else:
            low, most = middle + 1, fitted.tokens
    return best


def _measure(tokenizer: Any, template: str, messages: list[Message], shortened: bool) -> Fitted:
    rendered = render(tokenizer, messages, template)
    answer = sum(rendered.loss_mask)
    return Fitted(messages, len(rendered.input_ids) - answer, answer, shortened)
