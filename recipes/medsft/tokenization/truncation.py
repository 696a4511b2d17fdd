"""The token budget of a dialogue: the patient's side is shortened; the doctor's answers and end of turn never are."""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from medsft.records import Turn
from medsft.tokenization.chat_template import render
from medsft.tokenization.control_tokens import as_text
from medsft.tokenization.system_turns import DROP, KEEP, parted, placed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Scripts that put no blanks between words: Thai, Lao, Tibetan, Burmese, Khmer, kana, Han.
UNSPACED = "\u0e01-\u0e5b\u0e81-\u0edf\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
UNSPACED += "\uf900-\ufaff\U00020000-\U0003ffff"
# A run between blanks, or a letter of such a script; 37.5 and vowel signs stay whole.
WORD = re.compile(f"[{UNSPACED}]|[^\\s{UNSPACED}]+")


@dataclass(frozen=True)
class Fitted:
    """Messages within the budget. `answer_tokens` carry loss, `prompt_tokens` are all others.

    `broken`: someone had typed a control token, which was broken.
    """

    messages: list[Turn]
    prompt_tokens: int
    answer_tokens: int
    shortened: bool
    broken: bool = False

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.answer_tokens


def fit(
    tokenizer: "PreTrainedTokenizerBase", template: str, messages: list[Turn], max_length: int, system_turns: str = KEEP
) -> Fitted | None:
    """A dialogue shortened to `max_length` tokens, those of the template included; typed control tokens are broken.

    The oldest exchanges are removed first, then words from the start of the patient's last message; never the system
    turn, which is placed as `system_turns` says. None where the last answer does not fit together with one word of the
    patient.
    """
    given = parted(messages)[1] if system_turns == DROP else messages
    messages = as_text(tokenizer, given)
    fitted = _shortened(tokenizer, template, messages, max_length, system_turns)
    return replace(fitted, broken=messages != given) if fitted else None


def _shortened(
    tokenizer: "PreTrainedTokenizerBase", template: str, messages: list[Turn], max_length: int, system_turns: str
) -> Fitted | None:
    system, spoken = parted(messages)
    exchanges = len(spoken) // 2

    def measured(turns: list[Turn], shortened: bool) -> Fitted:
        return _measure(tokenizer, template, placed(system, turns, system_turns), shortened)

    def from_exchange(start: int) -> Fitted:
        return measured(spoken[2 * start :], shortened=start > 0)

    fitted = _first_that_fits(from_exchange, exchanges, max_length)
    if fitted is not None:
        return fitted
    question, answer = spoken[-2:]
    asked = question["content"].rstrip()  # blank lines at its end would count as tokens instead of words
    words = word_starts(asked)

    def from_word(start: int) -> Fitted:
        shorter: Turn = {**question, "content": asked[words[start] :]}
        return measured([shorter, answer], shortened=True)

    return _first_that_fits(from_word, len(words), max_length)


def word_starts(text: str) -> list[int]:
    """Where a text may be cut, from its first word on: after blanks, and in a script without them before any letter."""
    starts = [match.start() for match in WORD.finditer(text)]
    return [start for start in starts if start == 0 or text[start - 1].isspace() or _begins_word(text[start])]


def _begins_word(character: str) -> bool:
    """False for vowel signs and punctuation, which stay with the letter before them."""
    return unicodedata.category(character)[0] not in "MP"


def _first_that_fits(cut_at: Callable[[int], Fitted], size: int, max_length: int) -> Fitted | None:
    """The longest end of a dialogue that fits, searched by interpolation over its start; the whole is tried first.

    Interpolation assumes that tokens are spread evenly between two starts, and so tries two or three of them, where
    bisection would try ten. Each try narrows the search, so both find the same start.
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


def _measure(tokenizer: "PreTrainedTokenizerBase", template: str, messages: list[Turn], shortened: bool) -> Fitted:
    rendered = render(tokenizer, messages, template)
    answer = sum(rendered.loss_mask)
    return Fitted(messages, len(rendered.input_ids) - answer, answer, shortened)
