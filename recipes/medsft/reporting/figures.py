"""The report's figures as PNG: losses, scores with intervals, lengths. Colour is never the only distinction.

Drawn 6.4 inches wide with 11 point text, which is readable at the 360 pixels of a phone.
"""

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from medsft.hardware.specs import Hardware
from medsft.memory.plan_records import PlanRow
from medsft.records import DataReport, Interval
from medsft.reporting import ablation_report
from medsft.reporting.study import ARM_ORDER, UNTRAINED, Study
from medsft.result_records import Results
from medsft.source_study import published_figure
from medsft.text import label, method_of

# Okabe and Ito 2008, without its yellow, which is too pale on white.
COLOURS = ("#000000", "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")  # one more than colours, so that the pairs differ for 56 arms
HATCHES = ("", "//", "..", "xx", "\\\\", "--", "++", "oo", "**")
STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)))
GREY = "#6b6b6b"
Look = dict[str, Any]  # keyword arguments of matplotlib: color, marker, linestyle
NAIVE: Look = {"color": GREY, "marker": "o"}
WIDTH, DPI, BINS = 6.4, 160, 40
NO_METADATA = {"Software": None}  # the same input gives the same bytes
matplotlib.rcParams.update({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False})


def draw_all(study: Study, results: Results, folder: Path) -> None:
    """Write loss, scores, lengths, published and, where the study has ablations, faults as PNG into `folder`."""
    folder.mkdir()
    drawn = {"loss": losses(study), "scores": scores(results), "lengths": lengths(study.data)}
    drawn["published"] = published_figure.figure(results, study.trained(), arm_looks(results["arms"]))  # type: ignore[arg-type]
    if results["faults"]:
        drawn["faults"] = ablation_report.figure(results)
    for name, figure in drawn.items():
        figure.savefig(folder / f"{name}.png", dpi=DPI, metadata=NO_METADATA)


def losses(study: Study) -> Figure:
    """Training loss above, dev loss below, over optimizer steps; one line per trained arm."""
    figure = Figure(figsize=(WIDTH, 6.0), layout="constrained")
    looks, trained = arm_looks(arm.name for arm in study.arms), study.trained()
    upper, lower = figure.subplots(2, 1, sharex=True)
    for axes, key, title in ((upper, "loss", "Training loss"), (lower, "eval_loss", "Loss on the dev split")):
        for arm, train in trained.items():
            points = [(row["step"], row[key]) for row in train["history"] if row.get(key) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), label=plain(arm), markersize=4, **looks[arm])
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
        axes.set_ylabel("nats per token with loss")
        axes.grid(color="#dddddd", linewidth=0.6)
        if not axes.get_lines() or axes is upper:
            _legend_or_note(axes, "nothing was logged")
    lower.set_xlabel("optimizer step")
    return figure


def scores(results: Results) -> Figure:
    """One panel per primary metric: every arm (colour, filled) and naive baseline (grey, hollow) with its interval."""
    metrics, arms, naive = results["primary"], results["arms"], results["floors"]
    rows = -(-len(metrics) // 2) or 1
    names, looks = [*arms, *naive], arm_looks(arms)
    figure = Figure(figsize=(WIDTH, 0.6 + rows * (0.7 + 0.24 * len(names))), layout="constrained")
    panels = figure.subplots(rows, 2, sharey=True, squeeze=False).ravel()
    for panel, metric in zip(panels, metrics, strict=False):
        for position, name in enumerate(names):
            value = {**naive, **arms}[name]["metrics"].get(metric)
            if value:
                _interval(panel, value, position, NAIVE if name in naive else looks[name])
        panel.set_title(label(metric), loc="left", fontsize=11, fontweight="bold")
        panel.grid(axis="x", color="#dddddd", linewidth=0.6)
        panel.xaxis.set_major_locator(MaxNLocator(4))
    for panel in panels[len(metrics) :]:
        panel.set_axis_off()
    panels[0].set_yticks(range(len(names)), [plain(name if name in arms else f"naive: {name}") for name in names])
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    return figure


def lengths(data: DataReport) -> Figure:
    """Histogram of the training rows' lengths in tokens, with the token budget where it is known."""
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    axes = figure.subplots()
    tokens = data.get("lengths", [])
    if tokens:
        axes.hist(tokens, bins=BINS, color=COLOURS[1], edgecolor="white", linewidth=0.4, label="training dialogues")
    budget = data.get("arguments", {}).get("max_length")
    if budget:
        axes.axvline(budget, color=COLOURS[4], linestyle="--", label=f"budget: {budget} tokens")
    axes.set_xlabel("tokens of the whole dialogue")
    axes.set_ylabel("rows")
    _legend_or_note(axes, "no lengths were recorded", loc="lower left", bbox_to_anchor=(0, 1), ncols=4)  # above it
    return figure


def _interval(panel: Axes, value: Interval, position: int, look: Look) -> None:
    if value["low"] is not None and value["high"] is not None:
        panel.plot([value["low"], value["high"]], [position, position], color=look["color"], linewidth=2)
    face = "white" if look is NAIVE else look["color"]
    panel.plot([value["mean"]], [position], look["marker"], color=look["color"], markerfacecolor=face, markersize=6)


def arm_looks(names: Iterable[str]) -> dict[str, Look]:
    """Colour, marker and line of each arm. A known arm looks the same in every study; others take what is left.

    A repetition with another seed looks as its method does.
    """
    names = [*names]
    first = [*UNTRAINED[:1], *(name for name in ARM_ORDER if name not in UNTRAINED), *UNTRAINED[1:]]
    known = [*first, *dict.fromkeys(method_of(name) for name in names if method_of(name) not in ARM_ORDER)]
    cycled = zip(known, *map(itertools.cycle, (COLOURS, MARKERS, STYLES)), strict=False)
    looks: dict[str, Look] = {
        name: {"color": colour, "marker": marker, "linestyle": style} for name, colour, marker, style in cycled
    }
    return looks | {name: looks[method_of(name)] for name in names}


def _legend_or_note(axes: Axes, note: str, **position: Any) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, **position)
    else:
        axes.text(0.5, 0.5, note, transform=axes.transAxes, ha="center", color=GREY)


def plain(text: str) -> str:
    """An arm's name, with its dollar signs escaped: matplotlib would read mathematics."""
    return text.replace("$", r"\$")


def draw_plan(rows: list[PlanRow], hardware: Hardware, path: Path) -> None:
    """The plan as stacked bars: each strategy on one GPU and on the host, beside what the machine has; as PNG.

    Colour never stands alone: categories have hatches, and bars their totals.
    """
    panels: list[tuple[str, list[dict[str, int]], int]] = []
    if hardware.gpus:
        panels.append(("one GPU", [r["device_bytes"] for r in rows], hardware.device_bytes))
    panels.append(("host", [r["host_bytes_by"] for r in rows], hardware.host_bytes))
    figure = Figure(figsize=(6.4 * len(panels), 1.6 + 0.42 * len(rows)), layout="constrained")
    names = [row["name"] for row in rows]
    for axes, (memory, bars, limit) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        left = [0.0] * len(rows)
        categories = list(dict.fromkeys(c for bar in bars for c, size in bar.items() if size > 1e7))
        for number, category in enumerate(categories):
            sizes = [bar.get(category, 0) / 1e9 for bar in bars]
            look = {"color": COLOURS[number % len(COLOURS)], "hatch": HATCHES[number % len(HATCHES)], "alpha": 0.75}
            axes.barh(names, sizes, left=left, label=category, edgecolor="white", **look)
            left = [a + b for a, b in zip(left, sizes, strict=True)]
        for position, total in enumerate(left):
            axes.text(total, position, f" {total:.1f}", va="center", fontsize=9)
        axes.axvline(limit / 1e9, color="#000000", linestyle="--")
        axes.set_title(f"{memory}: has {limit / 1e9:.1f} GB (dashed)", loc="left", fontsize=11, fontweight="bold")
        axes.set_xlabel("GB at the peak")
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.legend(fontsize=8, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    figure.savefig(path, dpi=DPI, metadata=NO_METADATA)
