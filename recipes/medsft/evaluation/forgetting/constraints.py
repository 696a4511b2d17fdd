"""Checks of instruction following: each is decided by the text of the answer alone.

In the manner of IFEval (Zhou et al. 2023, arXiv:2311.07911), with checks that an answer of 48 tokens can meet.
"""

import json
import re
from collections.abc import Callable

from medsft.data.rules.language import COMMON, LETTERS
from medsft.records import Json

BULLET = re.compile(r"^\s*[-*•–]\s+\S")
NUMBERED = re.compile(r"^\s*\d+[.)]\s+\S")
WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’*)]*\s+")
MARKS = " \t\r\n.!\"'“”‘’*`"
FENCE = re.compile(r"^```(?:json)?\s*\n(.*?)\n?```$", re.DOTALL)
CASES = ("lower", "upper")


def unmet(checks: Json, answer: str) -> list[str]:
    """The names of the checks that the answer does not meet; all of them for an empty one."""
    text = answer.strip()
    return [name for name, wanted in checks.items() if not text or not CHECKS[name](text, wanted)]


def wrong(checks: object) -> str:
    """What is wrong with an item's checks, and the remedy; '' where nothing is."""
    if not isinstance(checks, dict) or not checks:
        return "'checks' is missing or empty; give at least one check, such as {'words_at_most': 10}"
    for name, value in checks.items():
        if name not in CHECKS:
            return f"'checks' has '{name}', which is no check; use {', '.join(CHECKS)}"
        if not _right_type(name, value):
            return f"'checks' has a value for '{name}' that it cannot be; see the table of checks in items/README.md"
    return ""


def _right_type(name: str, value: object) -> bool:
    if name in TEXTS:
        return isinstance(value, list) and bool(value) and all(isinstance(v, str) and v for v in value)
    if name == "times":
        return isinstance(value, dict) and bool(value) and all(k and _whole(v) for k, v in value.items())
    if name in ("starts", "ends"):
        return isinstance(value, str) and bool(value.strip())
    if name == "case":
        return value in CASES
    if name == "language":
        return value in COMMON
    return _whole(value)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def number(text: str) -> float | None:
    """The number that the whole text is, with or without commas between thousands; else None."""
    plain = text.strip().replace(",", "")
    return float(plain) if re.fullmatch(r"[-+]?\d+(?:\.\d+)?", plain, re.ASCII) else None


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def _sentences(text: str) -> int:
    return sum(any(c.isalnum() for c in part) for part in SENTENCE_END.split(text.strip()))


def _json(text: str) -> object:
    fenced = FENCE.match(text)
    try:
        return json.loads(fenced[1] if fenced else text)
    except ValueError:
        return None


def _has_keys(text: str, keys: list[str]) -> bool:
    found = _json(text)
    return isinstance(found, dict) and sorted(found) == sorted(keys)


def _has_length(text: str, length: int) -> bool:
    found = _json(text)
    return isinstance(found, list) and len(found) == length


def _has(text: str, word: str) -> bool:
    """Whether a word begins so, but for case."""
    return re.search(rf"(?<!\w){re.escape(word)}", text, re.IGNORECASE) is not None


def _times(text: str, part: str) -> int:
    """How often a word stands there, or anywhere in it what is no word."""
    if not WORD.fullmatch(part):
        return text.count(part)
    return len(re.findall(rf"(?<!\w){re.escape(part)}(?!\w)", text, re.IGNORECASE))


def _is_one_of(text: str, wanted: list[str]) -> bool:
    return text.strip(MARKS).casefold() in {one.strip(MARKS).casefold() for one in wanted}


def _is_in(text: str, language: str) -> bool:
    """More than twice as many of the language's common words as of English's, and one at least."""
    words = [word.lower() for word in LETTERS.findall(text)]
    own, english = (sum(word in COMMON[code].split() for word in words) for code in (language, "en"))
    return own > (0 if language == "en" else 2 * english)


TEXTS = ("json_keys", "contains", "omits", "one_of")
CHECKS: dict[str, Callable[[str, "Json | list[str] | str | int"], bool]] = {
    "bullets": lambda text, n: sum(bool(BULLET.match(line)) for line in _lines(text)) == n,
    "numbered": lambda text, n: sum(bool(NUMBERED.match(line)) for line in _lines(text)) == n,
    "lines": lambda text, n: len(_lines(text)) == n,
    "sentences": lambda text, n: _sentences(text) == n,
    "words": lambda text, n: len(WORD.findall(text)) == n,
    "words_at_most": lambda text, n: len(WORD.findall(text)) <= n,  # type: ignore[operator]
    "words_at_least": lambda text, n: len(WORD.findall(text)) >= n,  # type: ignore[operator]
    "json_keys": _has_keys,  # type: ignore[dict-item]
    "json_list": _has_length,  # type: ignore[dict-item]
    "case": lambda text, case: text.islower() if case == "lower" else text.isupper(),
    "contains": lambda text, words: all(_has(text, word) for word in words),  # type: ignore[union-attr]
    "omits": lambda text, words: not any(_times(text, word) for word in words),  # type: ignore[union-attr]
    "times": lambda text, parts: all(_times(text, part) == n for part, n in parts.items()),  # type: ignore[union-attr]
    "starts": lambda text, start: text.casefold().startswith(str(start).casefold()),
    "ends": lambda text, end: text.casefold().endswith(str(end).casefold()),
    "one_of": _is_one_of,  # type: ignore[dict-item]
    "language": _is_in,  # type: ignore[dict-item]
}
