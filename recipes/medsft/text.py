"""How metrics, numbers, intervals and sizes are written for people."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypedDict, TypeVar

from medsft.errors import UserError

V = TypeVar("V")
LABELS = {
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "rougeLsum": "ROUGE-Lsum",
    "bertscore_f1": "BERTScore F1",
    "bertscore_f1_rescaled": "BERTScore F1, rescaled",
    "bleu": "mean sentence BLEU (0 to 100)",
    "corpus_bleu": "corpus BLEU (0 to 100)",
    "chrf": "mean sentence chrF2 (0 to 100)",
    "meteor": "METEOR",
    "end_of_turn": "ended its own turn (share)",
    "length_ratio": "length ratio to the doctor (mean of ratios)",
    "length_ratio_of_means": "length ratio to the doctor (ratio of means)",
    "words": "words of the answer",
    "reference_words": "words of the doctor",
    "distinct_1": "distinct words",
    "distinct_2": "distinct word pairs",
    "loop": "loops (share)",
    "boilerplate": "boilerplate (share)",
    "identity": "invented identity (share)",
    "reading_grade": "reading grade (school years)",
    "red_flag_recall": "red-flag recall",
    "over_escalation": "over-escalation (share)",
    "dose_contradiction": "dose contradiction (share)",
    "completeness": "must-have statements said (share)",
    "contradictions": "statements contradicted (number)",
    "rubric": "rubric score",
    "copy_8": "copied 8-grams (share)",
    "copy_13": "copied 13-grams (share)",
    "longest_copy": "longest copy (words)",
    "nll": "nats per answer token (mean of answers)",
    "nll_token_weighted": "nats per answer token (all tokens)",
    "bits_per_byte": "bits per byte (mean of answers)",
    "bits_per_byte_byte_weighted": "bits per byte (all bytes)",
    "perplexity": "perplexity (all tokens)",
    "recited": "memorized verbatim (share)",
    "matched": "leading tokens memorized (of 30)",
    "agreement": "tokens in agreement (share)",
}
PARTS = {"stripped": "without boilerplate", "matched": "longer answers cut", "equal": "both cut to the shorter"}
LONGEST_NUMBER = 26  # characters of a mean with its interval
UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}


class Bounds(TypedDict):
    """The two ends of an interval; None where it has none."""

    low: float | None
    high: float | None


class Shift(Bounds):
    """A difference with its interval."""

    difference: float


def label(metric: str) -> str:
    """How a metric is called in text and figures; an unknown one keeps its own name."""
    base, _, part = metric.rpartition("_")
    if metric.startswith("bertscore_") and metric not in LABELS:
        return f"BERTScore {PARTS.get(part, part)}"
    return LABELS.get(metric) or (f"{LABELS[base]} {PARTS.get(part, part)}" if base in LABELS else metric)


def number(value: float | None, sign: str = "") -> str:
    """Three decimals below 10 (scores), one above (lengths), with a true minus sign; '–' for None."""
    if value is None:
        return "–"
    text = f"{value:{sign},.3f}" if abs(value) < 10 else f"{value:{sign},.1f}"
    return text.replace("-", "−")


def interval(row: Bounds, sign: str = "") -> str:
    """'[0.028, 0.052]', or '[no interval]'."""
    if row["low"] is None or row["high"] is None:
        return "[no interval]"
    return f"[{number(row['low'], sign)}, {number(row['high'], sign)}]"


def excludes_zero(row: Bounds) -> bool:
    """Whether there is an interval and 0 lies outside."""
    return row["low"] is not None and row["high"] is not None and not row["low"] <= 0 <= row["high"]


def change(row: Shift | None) -> str:
    """'+0.040 [+0.028, +0.052]'; '–' for None."""
    return f"{number(row['difference'], '+')} {interval(row, '+')}" if row else "–"


def gb(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value / 1e9:,.2f}\u00a0GB" if value else "none used"


def pvalue(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def count(value: object) -> str:
    """Whole numbers with thousands separators, other numbers with at most two decimals, the rest as it is."""
    if value is None:
        return "–"
    return f"{value:,.2f}".removesuffix(".00") if isinstance(value, int | float) else str(value)


@dataclass(frozen=True)
class Table:
    """A titled table of text; `note` stands above it, `empty` in its place where it has no rows."""

    title: str
    note: str
    heads: list[str]
    rows: list[list[str]]
    source: str
    empty: str = "Nothing was measured."

    def numeric(self, column: int) -> bool:
        """Whether a column is aligned as numbers: all its cells begin as one and none is a sentence."""
        cells = [row[column] for row in self.rows]
        return all(not cell or (cell[0] in "0123456789+−–-~<[" and len(cell) < LONGEST_NUMBER) for cell in cells)


def parse_bytes(text: str) -> int:
    """'167GB' -> 167_000_000_000. kB, MB, GB, TB are decimal; KiB, MiB, GiB, TiB binary. Raises UserError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]+)", text.strip().lower(), re.ASCII)
    if match is None or match[2] not in UNITS:
        raise UserError(f"'{text}' is not a size; write for example 167GB (decimal) or 160GiB (binary)")
    return round(float(match[1]) * UNITS[match[2]])


def method_of(arm: str) -> str:
    """The method of an arm: ARM_seed1 repeats ARM with another seed."""
    return re.sub(r"_seed_?\d+\Z", "", arm)


def by_method(arms: Mapping[str, V]) -> dict[str, list[V]]:
    """{method: the values of its arms, one a seed}, in the order of the methods' first arms."""
    found: dict[str, list[V]] = {}
    for arm, value in arms.items():
        found.setdefault(method_of(arm), []).append(value)
    return found


def whole_or_tenths(value: float) -> str:
    """'2', or '0.5' where it is not whole; never '0.0' for what is more than nothing."""
    if abs(value - round(value)) < 1e-6:
        return str(round(value))
    return f"{value:.1f}" if value >= 0.05 else "0.1"


def least_to_most(values: Iterable[float], written: Callable[[float], str] = str) -> str:
    """'3' where all values are written alike, '0 to 4' where they are not."""
    found = sorted(values)
    low, high = written(found[0]), written(found[-1])
    return low if low == high else f"{low} to {high}"
