"""What each arm lost elsewhere: the forgetting gate's table, and its sentences in the verdict."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medsft.evaluation.forgetting.comparison import OVERALL, VACUOUS
from medsft.evaluation.forgetting.items import OWN
from medsft.result_records import Results
from medsft.text import Table, change, number, pvalue

Row = Mapping[str, Any]  # comparison.Lost
LABELS = {
    OVERALL: "overall",
    "instructions": "instruction following",
    "general": "general knowledge",
    "medical": "medical knowledge",
    "refusal": "refusing harmful requests",
    "over_refusal": "answering harmless requests that sound harmful",
    "reasoning": "short reasoning",
}
WITHIN = ("superior", "equivalent", "non-inferior")
SUITES = {"suite": "the bundled suite", "public": "public suites"}


def label(kind: str) -> str:
    """How a kind of items is called; a task of a public suite keeps its name."""
    own = "your items: " if kind.startswith(OWN) else ""
    return own + LABELS.get(kind.removeprefix(OWN), kind)


def table(results: Results) -> Table:
    """Each arm against the baseline, overall and by kind."""
    found = results.get("forgetting") or {}
    rows = [
        [row["arm"], label(row["kind"]), str(row["n"]), f"{row['chance'] * row['n']:.0f}"]
        + [str(row["baseline_correct"]), str(row["arm_correct"])]
        + [f"{row['lost']} / {row['gained']}", change(row), pvalue(row["p_holm"]), short(row)]  # type: ignore[arg-type]
        for key in SUITES
        for row in _rows(results, key)
    ]
    note = (
        "Right answers to the same items, arm minus baseline. Lost / gained: items right in only one of the two. The "
        "interval of the paired difference is Tango's; overall its lower end decides whether a loss of the margin is "
        "excluded. p is McNemar's exact test, by Holm over the kinds of an arm."
    )
    if found:
        plan = f", plan {found['plan_hash']}" if found["plan_hash"] else ", which no plan declared"
        note += f" Margin {found['plan']['margin']:g} of the items{plan}."
        note += "".join(f" Changed since the plan: {line}." for line in found["changes"])
    heads = ["arm", "what", "n", "by chance", "baseline right", "arm right", "lost / gained", "difference", "Holm p"]
    empty = "No arm and baseline were asked (check_forgetting.py)."
    return Table(
        "Forgetting: what else did fine-tuning cost?", note, [*heads, "margin"], rows, "<arm>/forgetting.jsonl", empty
    )


def _rows(results: Results, key: str) -> list[Row]:
    """The comparisons on one suite, arms in the report's order."""
    rows: list[Row] = (results.get("forgetting") or {}).get(key, {}).get("comparisons", [])
    order = [*results["arms"]]
    return sorted(rows, key=lambda row: order.index(row["arm"]) if row["arm"] in order else len(order))


def short(row: Row) -> str:
    """The outcome of one row in a word or two."""
    if row["quality"] == VACUOUS:
        return "vacuous: nothing to lose"
    if row["quality"] in WITHIN:
        return "within"
    return {"inferior": "BEYOND", "worse": "lost, perhaps within"}.get(row["quality"], "cannot be told")


def sentences(results: Results) -> list[str]:
    """One for each arm that was asked, about the bundled suite and, where they were read, public suites."""
    said = []
    for key, suite in SUITES.items():
        rows = _rows(results, key)
        for arm in dict.fromkeys(row["arm"] for row in rows):
            said.append(_sentence(arm, suite, [row for row in rows if row["arm"] == arm], results["alpha"]))
    return said


def _sentence(arm: str, suite: str, rows: Sequence[Row], alpha: float) -> str:
    overall = next(row for row in rows if row["kind"] == OVERALL)
    counts = f"{overall['arm_correct']} of {overall['n']} right against {overall['baseline_correct']}"
    text = f"Forgetting, {arm} on {suite}: {counts} ({change(overall)}), {in_words(overall)}"  # type: ignore[arg-type]
    lost = list(_lost(rows, alpha))
    return text + (f"; it lost {'; '.join(lost)}." if lost else "; no kind of items was shown to be lost.")


def _lost(rows: Sequence[Row], alpha: float) -> Iterator[str]:
    """The kinds that an arm was shown to answer worse, by the corrected p."""
    for row in rows:
        if row["kind"] != OVERALL and row["p_holm"] < alpha and row["difference"] < 0:
            yield f"{label(row['kind'])} ({row['arm_correct']} of {row['n']} against {row['baseline_correct']})"


def in_words(row: Row) -> str:
    """What the interval and the margin say overall."""
    margin, n = f"{row['margin']:g}", row["n"]
    if row["quality"] == VACUOUS:
        above = number(row["baseline_correct"] / n - row["chance"])
        return f"which shows nothing: the baseline is only {above} above chance, less than the margin of {margin}"
    if row["quality"] in WITHIN:
        return f"within the margin of {margin}"
    if row["quality"] == "inferior":
        return f"a loss beyond the margin of {margin}"
    if row["quality"] == "worse":
        return f"a loss, of which {n} items cannot tell whether it is within the margin of {margin}"
    return f"and whether that is within the margin of {margin} cannot be told with {n} items"
