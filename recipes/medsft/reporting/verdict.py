"""The report's verdict: two sentences computed from the comparisons and the floors, never written by hand."""

from collections.abc import Iterable
from typing import Any

from medsft.text import interval, label, number


def verdict(results: dict[str, Any]) -> list[str]:
    """Two sentences: which arm differs from the baseline after Holm's correction, and how the arms stand to the floors.

    `results` is the content of results.json. A difference counts as shown where p_holm < alpha.
    """
    return [difference_sentence(results), floor_sentence(results)]


def difference_sentence(results: dict[str, Any]) -> str:
    """One sentence with every shown difference and its interval; says so where none was shown or none was tested."""
    rows = [c for c in results["comparisons"] if c["baseline"] == "baseline" and c["metric"] in results["primary"]]
    if not rows:
        return (
            f"Nothing can be said about fine-tuning yet: no trained arm was compared with the baseline "
            f"(scored: {_listed(results['arms'])})."
        )
    alpha, percent = results["alpha"], f"{100 * results['confidence']:g} %"
    arms = [name for name in results["arms"] if any(c["arm"] == name for c in rows)]
    shown = {arm: [c for c in rows if c["arm"] == arm and c["p_holm"] < alpha] for arm in arms}
    parts = [f"{arm} scores {_directions(differences)}" for arm, differences in shown.items() if differences]
    without = [arm for arm in arms if not shown[arm]]
    if without:
        open_rows = [c for c in rows if c["arm"] in without]
        low, high = min(c["low"] for c in open_rows), max(c["high"] for c in open_rows)
        parts.append(
            f"no difference from the baseline was shown for {_listed(without)} on any primary metric, where anything "
            f"from {number(low, '+')} to {number(high, '+')} remains possible"
        )
    sizes = sorted({c["n"] for c in rows})
    n = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    tested = len(results["comparisons"])
    return (
        f"On n = {n} held-out dialogues, {'; '.join(parts)} "
        f"(difference of means [{percent} interval], Holm-corrected over {tested} comparisons)."
    )


def floor_sentence(results: dict[str, Any]) -> str:
    """One sentence on how many primary metrics each arm clears the best floor, and a warning where the constant wins.

    An arm clears a floor where its whole interval lies above the floor's mean; a coarse check, not a paired test.
    """
    floors = {name: floor["metrics"] for name, floor in results["floors"].items()}
    metrics = [m for m in results["primary"] if any(m in floor for floor in floors.values())]
    if not metrics:
        return "No floor was scored, so it is not known whether an answer that needs no model would do as well."
    best = {m: max(floor[m]["mean"] for floor in floors.values() if m in floor) for m in metrics}
    counts: list[str] = []
    for arm, scores in results["arms"].items():
        cleared = [m for m in metrics if m in scores["metrics"] and scores["metrics"][m]["low"] > best[m]]
        counts.append(f"{len(cleared)} of {len(metrics)} for {arm}" if not counts else f"{len(cleared)} for {arm}")
    warnings = constant_warnings(results)
    tail = f"; warning: {'; '.join(warnings)}" if warnings else ""
    return (
        f"Beside {len(floors)} floors that need no model, the whole interval lies above the best floor on this many "
        f"primary metrics: {_listed(counts)}{tail}."
    )


def constant_warnings(results: dict[str, Any]) -> list[str]:
    """For each arm the primary metrics on which its interval reaches down to the mean of one fixed polite answer."""
    constant = results["floors"].get("constant", {"metrics": {}})["metrics"]
    warnings = []
    for arm, scores in results["arms"].items():
        ours = scores["metrics"]
        lost = [m for m in results["primary"] if m in constant and m in ours and ours[m]["low"] <= constant[m]["mean"]]
        if lost:
            against = [
                f"{label(m)} ({number(ours[m]['mean'])} {interval(ours[m])} against {number(constant[m]['mean'])})"
                for m in lost
            ]
            warnings.append(f"{arm} is not clearly above the constant answer on {_listed(against)}")
    return warnings


def _directions(rows: list[dict[str, Any]]) -> str:
    above = [f"{label(c['metric'])} by {number(c['difference'])} {interval(c)}" for c in rows if c["difference"] > 0]
    below = [f"{label(c['metric'])} by {number(-c['difference'])} {_mirrored(c)}" for c in rows if c["difference"] <= 0]
    sides = (("above", above), ("below", below))
    return " and ".join(f"{side} the baseline on {_listed(items)}" for side, items in sides if items)


def _mirrored(row: dict[str, Any]) -> str:
    return interval({"low": -row["high"], "high": -row["low"]})


def _listed(items: Iterable[str]) -> str:
    *head, last = list(items)
    return f"{', '.join(head)} and {last}" if head else last
