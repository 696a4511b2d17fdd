"""The report's one picture: quality against cost. Trained arms with their intervals, untrained ones as lines."""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from medsft.reporting.figures import COLOURS, DPI, GREY, NO_METADATA, WIDTH, arm_looks, plain
from medsft.result_records import Results
from medsft.text import by_method, label

UNTRAINED = ("-", "--", "-.", ":")  # the untrained model as it is, then with each prompt


def draw(results: Results, folder: Path) -> None:
    """Write quality_cost.png."""
    figure(results).savefig(folder / "quality_cost.png", dpi=DPI, metadata=NO_METADATA)


def figure(results: Results) -> Figure:
    """The first primary metric over minutes of training. Naive baselines: the best one, as a dotted grey line."""
    drawn = Figure(figsize=(WIDTH, 3.7), layout="constrained")
    axes = drawn.subplots()
    metric = results["primary"][0] if results["primary"] else ""
    looks = arm_looks(results["arms"])
    times = {name: spent["wall_seconds"] / 60 for name, spent in results["cost"].items() if spent["wall_seconds"]}
    untrained = [name for name in results["arms"] if name not in results["cost"]]
    scores = {
        name: value
        for name in times
        if name in results["arms"] and (value := results["arms"][name]["metrics"].get(metric)) is not None
    }
    methods = by_method({name: name for name in scores})
    named = {arms[0]: f"{method}, {len(arms)} seeds" if len(arms) > 1 else arms[0] for method, arms in methods.items()}
    for name, value in scores.items():
        minutes = times[name]
        look = {**looks[name], "linestyle": "none"}
        if value["low"] is not None and value["high"] is not None:
            axes.plot([minutes, minutes], [value["low"], value["high"]], color=look["color"], linewidth=2)
        axes.plot([minutes], [value["mean"]], label=plain(named.get(name, "")), markersize=8, **look)
    for position, name in enumerate(untrained):
        value = results["arms"][name]["metrics"].get(metric)
        if value is None:
            continue
        style, colour = UNTRAINED[position % len(UNTRAINED)], COLOURS[0] if name == "baseline" else COLOURS[1]
        shown = "untrained" if name == "baseline" else f"untrained: {name}"
        axes.axhline(value["mean"], color=colour, linestyle=style, linewidth=1.4, label=plain(shown))
        if name == "baseline" and value["low"] is not None and value["high"] is not None:
            axes.axhspan(value["low"], value["high"], color=colour, alpha=0.08, linewidth=0)
    naive = {n: s["metrics"][metric]["mean"] for n, s in results["floors"].items() if metric in s["metrics"]}
    if naive:
        best = max(naive, key=lambda name: naive[name])
        axes.axhline(naive[best], color=GREY, linestyle=(0, (1, 3)), label=f"no model: {best}")
    if times:
        axes.set_xscale("log")
        axes.set_xlim(min(times.values()) / 2, max(times.values()) * 2)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if len(times) < 9 else ""))
        axes.tick_params(axis="x", which="minor", labelsize=8)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel("minutes of training (log scale)" if times else "no arm was trained")
    axes.set_ylabel(label(metric))
    axes.grid(color="#dddddd", linewidth=0.6)
    if axes.get_legend_handles_labels()[0]:
        drawn.legend(loc="outside upper left", frameon=False, ncols=3, fontsize=9)
    return drawn
