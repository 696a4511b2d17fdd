"""What each rule did to the first row it fired in: {rule: {before, after}}, with some words around the change.

Samples of cleaning are de-identified; in those of de-identification the letters of what was found are masked.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

from medsft.data.rules import cleaning, deidentification

CONTEXT = 60  # characters of a sample to each side of what changed
Sample = dict[str, str]
Steps = Iterable[tuple[str, str, str]]  # rule, text before, text after


def of_cleaning(read: Any, cleaned: Any, skip: list[str]) -> dict[str, Sample]:
    """Samples of the cleaning rules, from the tables before and after."""
    return of_rules(cleaning.RULES, read, cleaned, lambda turn: cleaning.trace(*turn, skip), plain)


def of_identifiers(cleaned: Any, redacted: Any, skip: list[str]) -> dict[str, Sample]:
    """Samples of the rules of de-identification, from the tables before and after."""
    *finding, last = deidentification.RULES  # the last rule works on placeholders, which need no mask

    def trace(turn: tuple[str, str]) -> Steps:
        return deidentification.trace(*turn, skip)

    return of_rules(finding, cleaned, redacted, trace, masked) | of_rules([last], cleaned, redacted, trace, plain)


def of_rules(
    rules: Iterable[str],
    before: Any,
    after: Any,
    trace: Callable[[tuple[str, str]], Steps],
    show: Callable[[str, str], Sample],
) -> dict[str, Sample]:
    """The first turn that each rule changed, among the rows whose `fired` in the table `after` names it."""
    found: dict[str, Sample] = {}
    for rule in rules:
        place = first_with(after.data.table["fired"], rule)
        turns = [] if place is None else before[place]["turns"]
        steps = [step for turn in turns for step in trace((turn["text"], turn["role"])) if step[0] == rule]
        if steps:
            found[rule] = show(*steps[0][1:])
    return found


def of_names(redacted: Any, named: Any) -> dict[str, Sample]:
    """The sample of what Presidio found."""
    place = first_with(named.data.table["redacted"], "PERSON")
    texts = [[turn["text"] for turn in table[place]["turns"]] for table in (redacted, named) if place is not None]
    return of_step("presidio", *texts) if texts else {}


def of_step(name: str, before: Iterable[str], after: Iterable[str]) -> dict[str, Sample]:
    """The sample of a step without rules: the first of a row's texts that it changed."""
    changed = [masked(*pair) for pair in zip(before, after, strict=True) if pair[0] != pair[1]]
    return {name: changed[0]} if changed else {}


def first_with(column: Any, value: str) -> int | None:
    """The first row of an Arrow column of lists that holds `value`."""
    from pyarrow import compute

    offset = 0
    for chunk in column.chunks:
        parents = compute.list_parent_indices(chunk)
        place = compute.index(compute.list_flatten(chunk), value).as_py()
        if place >= 0:
            return offset + parents[place].as_py()
        offset += len(chunk)
    return None


def plain(before: str, after: str) -> Sample:
    start, end, new_end = change(before, after)
    return {"before": hidden(clip(before, start, end)), "after": hidden(clip(after, start, new_end))}


def masked(before: str, after: str) -> Sample:
    """With x and 9 for the letters and digits of what was found; what stands around may hold other identifiers."""
    start, end, new_end = change(before, after)
    found = re.sub(r"[^\W\d_]", "x", re.sub(r"\d", "9", before[start:end]))[: 4 * CONTEXT]
    around = hidden(before[max(0, start - CONTEXT) : start]), hidden(before[end : end + CONTEXT])
    return {"before": f"{around[0]}{found}{around[1]}", "after": hidden(clip(after, start, new_end))}


def change(before: str, after: str) -> tuple[int, int, int]:
    """Where two texts begin to differ, and where in each they are the same again."""
    start = next(
        (i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after))
    )
    same = 0
    while same < min(len(before), len(after)) - start and before[-1 - same] == after[-1 - same]:
        same += 1
    return start, len(before) - same, len(after) - same


def clip(text: str, start: int, end: int) -> str:
    return text[max(0, start - CONTEXT) : end + CONTEXT][: 6 * CONTEXT]


def hidden(text: str) -> str:
    """Without identifiers of either speaker."""
    for role in ("user", "assistant"):
        text, _ = deidentification.deidentify(text, role, skip=["sign_off"])
    return text
