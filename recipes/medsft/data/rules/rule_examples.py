"""An example of each rule: the first change it made, with some words around it.

Examples of cleaning are de-identified. In those of de-identification the letters of what was found are masked.
"""

import re
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from medsft.data.rules import cleaning, deidentification
from medsft.data.rules.cleaning import Change
from medsft.data.rules.deidentification import STANDARD

if TYPE_CHECKING:
    from datasets import Dataset
    from pyarrow import ChunkedArray

RuleExample = dict[str, str]  # the first change that a rule made, `before` and `after`
CONTEXT = 60  # characters shown to each side of a change


def of_cleaning(read: "Dataset", cleaned: "Dataset", skip: Collection[str]) -> dict[str, RuleExample]:
    """{rule: example} of the cleaning rules, from the tables before and after."""
    return _of_rules(cleaning.RULES, read, cleaned, lambda text, role: cleaning.changes(text, role, skip), shown)


def of_deidentification(
    cleaned: "Dataset", redacted: "Dataset", skip: Collection[str], level: str = STANDARD
) -> dict[str, RuleExample]:
    """{rule: example} of the de-identification rules, from the tables before and after."""
    *finding, last = deidentification.RULES  # the last rule works on placeholders, which need no mask

    def changes(text: str, role: str) -> list[Change]:
        return deidentification.changes(text, role, skip, level)

    examples = _of_rules(finding, cleaned, redacted, changes, masked)
    return examples | _of_rules([last], cleaned, redacted, changes, shown)


def _of_rules(
    rules: Iterable[str],
    before: "Dataset",
    after: "Dataset",
    changes: Callable[[str, str], list[Change]],
    show: Callable[[str, str], RuleExample],
) -> dict[str, RuleExample]:
    """The first change that each rule made, in the first row whose `fired` in the table `after` names it."""
    examples: dict[str, RuleExample] = {}
    for rule in rules:
        row = first_with(after.data.table["fired"], rule)
        turns = [] if row is None else before[row]["turns"]
        made = [change for turn in turns for change in changes(turn["content"], turn["role"]) if change.rule == rule]
        if made:
            examples[rule] = show(made[0].before, made[0].after)
    return examples


def of_presidio(redacted: "Dataset", named: "Dataset") -> dict[str, RuleExample]:
    """{'presidio': example} from the tables before and after; {} where it found no name."""
    row = first_with(named.data.table["redacted"], "PERSON")
    if row is None:
        return {}
    before, after = ([turn["content"] for turn in table[row]["turns"]] for table in (redacted, named))
    return of_texts("presidio", before, after)


def of_texts(name: str, before: Iterable[str], after: Iterable[str]) -> dict[str, RuleExample]:
    """{name: example} of the first text that changed; {} where none did."""
    changed = [masked(*pair) for pair in zip(before, after, strict=True) if pair[0] != pair[1]]
    return {name: changed[0]} if changed else {}


def first_with(column: "ChunkedArray", value: str) -> int | None:
    """The first row of an Arrow column of lists in which `value` is; None where it is in none."""
    from pyarrow import compute

    offset = 0
    for chunk in column.chunks:
        parents = compute.list_parent_indices(chunk)
        found = compute.index(compute.list_flatten(chunk), value).as_py()
        if found >= 0:
            return offset + int(parents[found].as_py())
        offset += len(chunk)
    return None


def shown(before: str, after: str) -> RuleExample:
    """A change with the words around it, de-identified."""
    start, end, new_end = changed_span(before, after)
    return {"before": hidden(clip(before, start, end)), "after": hidden(clip(after, start, new_end))}


def masked(before: str, after: str) -> RuleExample:
    """The same with x and 9 for the letters and digits of what was replaced."""
    start, end, new_end = changed_span(before, after)
    found = re.sub(r"[^\W\d_]", "x", re.sub(r"\d", "9", before[start:end]))[: 4 * CONTEXT]
    around = hidden(before[max(0, start - CONTEXT) : start]), hidden(before[end : end + CONTEXT])
    return {"before": f"{around[0]}{found}{around[1]}", "after": hidden(clip(after, start, new_end))}


def changed_span(before: str, after: str) -> tuple[int, int, int]:
    """Where two texts begin to differ, and where in the first and in the second they are the same again."""
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
    """The text de-identified by the rules of both roles."""
    for role in ("user", "assistant"):
        text, _ = deidentification.deidentify(text, role, skip=["sign_off"])
    return text
