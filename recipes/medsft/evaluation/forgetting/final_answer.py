"""The final answer of a short reasoning: what stands after "answer is", else the last number or sentence."""

import re
from collections.abc import Sequence

from medsft.evaluation.forgetting import constraints

MARKER = re.compile(r"\banswer(?: is|:)", re.IGNORECASE)
CONCLUDES = re.compile(r"\banswer(?: is|:)|\btherefore\b|\bso\b", re.IGNORECASE)
NUMBER = re.compile(r"(?<![\w.])[-−]?\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)|(?<![\w.])[-−]?\d+(?:\.\d+)?")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n")


def is_right(text: str, answer: str, options: Sequence[str] | None) -> bool:
    """Whether the final answer of `text` is `answer`: a number, or one of the `options`."""
    if options is None:
        return final_number(text) == constraints.number(answer)
    return final_option(text, options) == answer


def final_number(text: str) -> float | None:
    """The first number after the last marker, else the last number of the text."""
    *before, after = MARKER.split(text)
    if before and (found := NUMBER.search(after)):
        return constraints.number(found[0].replace("−", "-"))
    numbers = NUMBER.findall(text)
    return constraints.number(numbers[-1].replace("−", "-")) if numbers else None


def final_option(text: str, options: Sequence[str]) -> str | None:
    """The first option named after the last marker, 'so' or 'therefore'; else in the last sentence that names one."""
    named = re.compile("|".join(rf"(?<!\w){re.escape(option)}(?!\w)" for option in options), re.IGNORECASE)
    *before, after = CONCLUDES.split(text)
    parts = [after] if before and named.search(after) else [s for s in SENTENCE_END.split(text) if named.search(s)]
    found = named.search(parts[-1]) if parts else None
    if found is None:
        return None
    return next(option for option in options if option.casefold() == found[0].casefold())
