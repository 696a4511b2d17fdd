"""Precision and recall of a reading against labels, with Wilson's intervals."""

from collections.abc import Sequence
from typing import TypedDict

from medsft.evaluation.statistics.proportions import wilson
from medsft.records import Json
from medsft.text import Table

PLACES = {  # keys of accuracy.json, and what the readings were measured on
    "cross_validation": "cross-validation on its own items",
    "other_items": "items of another set",
    "sample": "the embedded sample's consultations",
}


class Share(TypedDict):
    """`hits` of `n`, with an interval. `value` is None where n is 0."""

    value: float | None
    low: float
    high: float
    hits: int
    n: int


class Accuracy(TypedDict):
    """Of `n` labelled texts, `positives` are labelled so. Precision: of those read so. Recall: of the positives."""

    n: int
    positives: int
    precision: Share
    recall: Share
    specificity: Share


def share(hits: int, n: int, confidence: float) -> Share:
    """A share with Wilson's interval; from 0 to 1 where nothing was counted."""
    low, high = wilson(hits, n, confidence) if n else (0.0, 1.0)
    return {"value": hits / n if n else None, "low": low, "high": high, "hits": hits, "n": n}


def measure(labels: Sequence[bool], read: Sequence[bool], confidence: float) -> Accuracy:
    """Accuracy of what was `read`, in the order of the labels."""
    pairs = [*zip(labels, read, strict=True)]
    found = sum(label and fired for label, fired in pairs)
    positives, fired_at = sum(labels), sum(read)
    negatives = len(pairs) - positives
    return {
        "n": len(pairs),
        "positives": positives,
        "precision": share(found, fired_at, confidence),
        "recall": share(found, positives, confidence),
        "specificity": share(negatives - (fired_at - found), negatives, confidence),
    }


def sentence(name: str, accuracy: Accuracy) -> str:
    """'messages, n = 80: precision 0.91 (0.80 to 0.96), recall ...'."""
    parts = []
    for key in ("precision", "recall"):
        found = accuracy[key]  # type: ignore[literal-required]
        value = "undefined" if found["value"] is None else f"{found['value']:.2f}"
        parts.append(f"{key} {value} ({found['low']:.2f} to {found['high']:.2f}; {found['hits']} of {found['n']})")
    return f"{name}, n = {accuracy['n']}: {', '.join(parts)}"


def table(instrument: Json) -> Table:
    """The report's table on the readings behind the safety figures: how often each is wrong."""
    rows = [
        [kind, where, str(found["n"]), *(_cell(found[part]) for part in ("precision", "recall", "specificity"))]
        for kind, entry in instrument.items()
        if isinstance(entry, dict)
        for key, where in PLACES.items()
        if (found := entry.get(key))
    ]
    note = (
        "The readings behind the safety figures, against labelled items with 95 % intervals (Wilson 1927). The items "
        "are English and written by a language model. Consultations of ordinary length are harder than short items: "
        "most false alarms are there. check_safety.py takes labels of your own."
    )
    heads = ["what is read", "measured on", "items", "precision", "recall", "specificity"]
    return Table("How often the safety readings are wrong", note, heads, rows, "comparison.json")


def _cell(found: Share) -> str:
    value = "" if found["value"] is None else f"{found['value']:.2f} "
    return f"{value}({found['low']:.2f} to {found['high']:.2f})"
