"""Placeholders such as [PHONE] in place of what a pattern finds, counted by kind."""

import re
from collections import Counter

from medsft.data.rules.identifiers.not_names import is_no_name

PLACEHOLDER = re.compile(r"\[[A-Z]+(?:_[A-Z0-9]+)*\]")


def replace(pattern: re.Pattern[str], kind: str, text: str, counts: Counter[str]) -> str:
    """Replace every match of the pattern, whatever stands around it."""
    text, number = pattern.subn(f"[{kind}]", text)
    counts[kind] += number
    return text


def replace_after(pattern: re.Pattern[str], kind: str, text: str, counts: Counter[str], look: int = 2) -> str:
    """Replace what follows the pattern's first group, unless one of its first `look` words cannot be a name."""

    def placeholder(match: re.Match[str]) -> str:
        words = re.findall(r"[a-zß-ÿ'’]+", match[0][len(match[1]) :].lower())[:look]
        if any(is_no_name(word) for word in words if word != "dr"):
            return match[0]
        counts[kind] += 1
        return f"{match[1]}[{kind}]"

    return pattern.sub(placeholder, text)


def replaced(before: str, after: str) -> list[tuple[int, int, str]]:
    """(start, end, kind) of each part of `before` for which `after` has a placeholder, in order.

    [] where `after` was not made from `before` by placeholders alone.
    """
    kinds, parts = PLACEHOLDER.findall(after), PLACEHOLDER.split(after)
    if not kinds or not before.startswith(parts[0]) or not before.endswith(parts[-1]):
        return []
    spans: list[tuple[int, int, str]] = []
    start = len(parts[0])
    for kind, part in zip(kinds, parts[1:], strict=True):
        last = len(spans) == len(kinds) - 1
        end = len(before) - len(part) if last else before.find(part, start + 1)
        if end <= start:
            return []
        spans.append((start, end, kind[1:-1]))
        start = end + len(part)
    return spans
