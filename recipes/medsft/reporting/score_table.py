"""What score.py shows in the terminal: one table of arms, one line for each comparison, and the guardrail."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medsft.records import Interval, Json, Summary
from medsft.reporting.verdict import NOT_SHOWN, floor_sentences, listed, outcome
from medsft.text import change, label, number

COLUMNS = 4  # metrics side by side, so that 80 columns hold them whole


def show(arms: Mapping[str, Summary], comparison: Json) -> None:
    """Print the scores; before any arm has answered, those of the naive baselines."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    settings = comparison["settings"]
    systems = arms or {f"naive: {name}": scores for name, scores in comparison["floors"].items()}
    level = f"{100 * settings['confidence']:g} % intervals"
    for start in range(0, len(settings["primary"]), COLUMNS):
        metrics = settings["primary"][start : start + COLUMNS]
        table = Table(
            "",
            title=f"Scores, {level} (cut: answers that ended at the limit)",
            box=SIMPLE,
            pad_edge=False,
            padding=(0, 1, 0, 0),
        )
        for metric in metrics:
            table.add_column(label(metric), justify="right", overflow="fold")
        table.add_column("n", justify="right")
        table.add_column("cut", justify="right")
        for name, system in systems.items():
            cells = [cell(system["metrics"].get(metric)) for metric in metrics]
            table.add_row(name, *cells, str(system["n"]), cut_share(system))
        Console().print(table)
    for line in sentences(arms, comparison):
        print(line)


def sentences(arms: Mapping[str, Summary], comparison: Json) -> Iterator[str]:
    """A line for each arm against the baseline, pair of arms, arm against the naive baselines, and guardrail."""
    settings = comparison["settings"]
    alpha = 1 - settings["confidence"]
    if not comparison["comparisons"]:
        yield "no comparison: it takes the arm 'baseline' and another one"
        return
    for rows in (comparison["comparisons"], comparison["pairs"]):
        for arm, other in dict.fromkeys((row["arm"], row["baseline"]) for row in rows):
            some = [row for row in rows if (row["arm"], row["baseline"]) == (arm, other)]
            yield f"{arm} against {other}: {outcomes(some, alpha)}."
    yield from textwrap.wrap(detectable(comparison["comparisons"]), 80)
    known: Any = {"arms": arms, "alpha": alpha, "primary": settings["primary"]}
    if comparison["floor_comparisons"]:
        yield from floor_sentences(known | {"floor_comparisons": comparison["floor_comparisons"]})
    for row in comparison["guardrails"]:
        shares = f"{number(row['arm_share'])} against {number(row['baseline_share'])}, n = {row['n']}"
        yield f"guardrail red-flag recall, {row['arm']}: {row['verdict']} ({shares})."


def detectable(rows: Sequence[Mapping[str, Any]]) -> str:
    """What so many answers can show, of each metric for the arm that varies most: 'ROUGE-1 0.021'."""
    most: dict[str, float] = {}
    for row in rows:
        most[row["metric"]] = max(most.get(row["metric"], 0.0), row.get("detectable") or 0.0)
    sizes = listed([f"{label(metric)} {number(size)}" for metric, size in most.items()])
    return f"80 % power, before correction, for true differences from: {sizes} (n = {min(row['n'] for row in rows)})."


def outcomes(rows: Sequence[Mapping[str, Any]], alpha: float) -> str:
    """'better on ROUGE-1 +0.040 [+0.028, +0.052]; not shown on ROUGE-2, ROUGE-L'."""
    found: dict[str, list[str]] = {}
    for row in rows:
        word = outcome(row, alpha)
        found.setdefault(word, []).append(label(row["metric"]) + ("" if word == NOT_SHOWN else f" {change(row)}"))  # type: ignore[arg-type]
    return "; ".join(f"{word} on {listed(names)}" for word, names in found.items())


def cell(value: Interval | None) -> str:
    """The mean, and below it its interval."""
    if value is None:
        return "–"
    none = value["low"] is None
    return f"{number(value['mean'])}\n" + ("no interval" if none else f"{number(value['low'])}–{number(value['high'])}")


def cut_share(system: Summary) -> str:
    ended = system["metrics"].get("end_of_turn")
    return f"{1 - ended['mean']:.0%}" if ended else ""
