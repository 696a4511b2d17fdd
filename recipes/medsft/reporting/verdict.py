"""The report's verdict: two sentences computed from the comparisons and the naive baselines, never written by hand."""

from collections.abc import Iterable, Sequence

from medsft.records import Difference
from medsft.result_records import Results
from medsft.text import interval, label, number


def verdict(results: Results) -> list[str]:
    """Two sentences: which arm differs from the baseline, and how the arms compare with the naive baselines.

    A difference counts as shown where its Holm-corrected p is below alpha.
    """
    return [difference_sentence(results), naive_baseline_sentence(results)]


def difference_sentence(results: Results) -> str:
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


def naive_baseline_sentence(results: Results) -> str:
    """On how many primary metrics each arm beats the best naive baseline, and where it may lose to the constant answer.

    An arm beats it where its whole interval lies above the naive baseline's mean: a coarse check, not a paired test.
    """
    naive = {name: scores["metrics"] for name, scores in results["floors"].items()}
    metrics = [m for m in results["primary"] if any(m in scores for scores in naive.values())]
    if not metrics:
        return "No naive baseline was scored, so an answer that needs no model might do as well."
    best = {m: max(scores[m]["mean"] for scores in naive.values() if m in scores) for m in metrics}
    counts: list[str] = []
    for arm, scores in results["arms"].items():
        above = [m for m in metrics if m in scores["metrics"] and scores["metrics"][m]["low"] > best[m]]
        counts.append(f"{len(above)} of {len(metrics)} for {arm}" if not counts else f"{len(above)} for {arm}")
    warnings = constant_answer_warnings(results)
    tail = f"; warning: {'; '.join(warnings)}" if warnings else ""
    return (
        f"Compared with {len(naive)} naive baselines (answers that need no trained model), the whole interval lies "
        f"above the best of them on this many primary metrics: {_listed(counts)}{tail}."
    )


def constant_answer_warnings(results: Results) -> list[str]:
    """For each arm the primary metrics on which its interval reaches down to the mean of one constant polite answer."""
    constant = results["floors"]["constant"]["metrics"] if "constant" in results["floors"] else {}
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


def _directions(rows: Sequence[Difference]) -> str:
    above = [f"{label(c['metric'])} by {number(c['difference'])} {interval(c)}" for c in rows if c["difference"] > 0]
    below = [f"{label(c['metric'])} by {number(-c['difference'])} {_mirrored(c)}" for c in rows if c["difference"] <= 0]
    sides = (("above", above), ("below", below))
    return " and ".join(f"{side} the baseline on {_listed(items)}" for side, items in sides if items)


def _mirrored(row: Difference) -> str:
    return interval({"low": -row["high"], "high": -row["low"]})


def _listed(items: Iterable[str]) -> str:
    *head, last = list(items)
    return f"{', '.join(head)} and {last}" if head else last
