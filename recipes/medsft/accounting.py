"""The numbers of data_report.json: where every row went, per reason, rule and source, with a sample of each rule."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from medsft import cleaning, deidentification
from medsft.splitting import Row

CONTEXT = 60  # characters of a sample to each side of what changed


def tally(column: Any) -> Counter[str]:
    """How often each value occurs in an Arrow column of texts or of lists of texts; '' is not counted."""
    import pyarrow
    from pyarrow import compute

    if pyarrow.types.is_list(column.type):
        column = compute.list_flatten(column)
    counts = {pair["values"]: pair["counts"] for pair in compute.value_counts(column).to_pylist()}
    return Counter({value: count for value, count in counts.items() if value})


def token_counts(prompt: list[int], answer: list[int]) -> dict[str, int]:
    """Sums over the rows of a split, and its longest row."""
    longest = max(map(sum, zip(prompt, answer, strict=True)), default=0)
    return {"prompt": sum(prompt), "answer": sum(answer), "total": sum(prompt) + sum(answer), "max": longest}


def sizes(parts: dict[str, list[Row]]) -> dict[str, dict[str, int]]:
    """Rows and groups of each split."""
    return {name: {"rows": len(rows), "groups": len({row.group for row in rows})} for name, rows in parts.items()}


def by_source(**columns: Counter[str]) -> dict[str, dict[str, int]]:
    """{source: {what: count}} from one Counter of sources for each thing counted."""
    sources = sorted(set().union(*columns.values()))
    return {source: {name: counts[source] for name, counts in columns.items()} for source in sources}


def shared_groups(parts: dict[str, list[Row]]) -> int:
    """Rows outside train that share a group with a row of it: 0 for every split but the study's."""
    train = {row.group for row in parts["train"]}
    return sum(row.group in train for name, rows in parts.items() if name != "train" for row in rows)


def samples(read: Any, cleaned: Any, skip: Iterable[str]) -> dict[str, dict[str, str]]:
    """What each rule did to the first row it fired in: {rule: {before, after}}, with some words around the change.

    Samples of cleaning are de-identified; in those of de-identification the letters of what was found are masked.
    """
    found: dict[str, dict[str, str]] = {}
    fired = cleaned.data.table["fired"]
    for rule in cleaning.RULES:
        place = first_with(fired, rule)
        turns = [] if place is None else read[place]["turns"]
        steps = [step for turn in turns for step in cleaning.trace(turn["text"], turn["role"], list(skip))]
        for _, before, after in [step for step in steps if step[0] == rule][:1]:
            start, end, new_end = change(before, after)
            found[rule] = {"before": hidden(clip(before, start, end)), "after": hidden(clip(after, start, new_end))}
    return found


def identifier_samples(cleaned: Any, redacted: Any, skip: Iterable[str]) -> dict[str, dict[str, str]]:
    """Like `samples`, for the rules of de-identification."""
    found: dict[str, dict[str, str]] = {}
    column = redacted.data.table["redacted"]
    for kind in tally(column):
        place = first_with(column, kind)
        for turn in [] if place is None else cleaned[place]["turns"]:
            for rule, before, after in deidentification.trace(turn["text"], turn["role"], list(skip)):
                if rule not in found:
                    start, end, new_end = change(before, after)
                    masked = (
                        before[:start] + re.sub(r"[^\W\d_]", "x", re.sub(r"\d", "9", before[start:end])) + before[end:]
                    )
                    # what stands around may hold identifiers that a later rule finds
                    shown = hidden(masked[max(0, start - CONTEXT) : start]), masked[start:end]
                    found[rule] = {
                        "before": "".join(shown) + hidden(masked[end : end + CONTEXT]),
                        "after": hidden(clip(after, start, new_end)),
                    }
    return found


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
    return deidentification.deidentify(deidentification.deidentify(text, "user")[0], "assistant")[0]
