"""The source study's two charts, redrawn with this run's arms in the same axes and intervals where they exist."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medsft.source_study import facts, published_scores

Record = Mapping[str, Any]  # results.json, train.json, a part of them, or how an arm is drawn
ByArm = Mapping[str, Record]
GREY, PALE = "#6b6b6b", "#bdbdbd"


def figure(results: Record, trains: ByArm, looks: ByArm) -> Figure:
    """Losses over the share of the run above, scores as bars below; `looks` are the arms' colours and markers."""
    drawing = Figure(figsize=(6.4, 7.4), layout="constrained")
    upper, lower = drawing.subplots(2, 1)
    losses(upper, trains, looks)
    scores(lower, results, looks)
    drawing.legend(*lower.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return drawing


def losses(axes: Axes, trains: ByArm, looks: ByArm) -> None:
    """The study's four points of training and validation loss, and the dev loss of our arms."""
    shares = [100 * step / facts.STEPS for step, _, _ in facts.LOSSES]
    for column, style, name in ((1, "-", "training"), (2, "--", "validation")):
        values = [row[column] for row in facts.LOSSES]
        axes.plot(shares, values, style, color=GREY, marker="o", markersize=4, label=f"published, {name}")
    for arm, train in trains.items():
        points = [(100 * r["step"] / train["steps"], r["eval_loss"]) for r in train["history"] if r.get("eval_loss")]
        if points:
            axes.plot(*zip(*points, strict=True), markersize=4, **looks[arm])
    axes.set_title("Loss (published: all tokens; ours: dev split)", loc="left", fontsize=11, fontweight="bold")
    axes.set_xlabel("share of the run, %")
    axes.set_ylabel("nats per token with loss")
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.legend(frameon=False, fontsize=9)


def scores(axes: Axes, results: Record, looks: ByArm) -> None:
    """Grouped bars of the study's four metrics: its two models, then our arms, those with a single fault left out."""
    rows, arms = results["study_table"], [arm for arm in results["arms"] if not arm.startswith("fault_")]
    width = 0.84 / (2 + len(arms))
    for index, (name, colour) in enumerate((("baseline", PALE), ("finetuned", GREY))):
        values = [row[f"published_{name}"] for row in rows]
        found = [row["recomputed"][index] if row["recomputed"] else None for row in rows]
        label = f"published {name.replace('finetuned', 'fine-tuned')}, n = {published_scores.N}"
        _bars(axes, index, width, values, found, {"color": colour, "hatch": "//", "label": label})
    for index, arm in enumerate(arms, 2):
        found = [row["ours"].get(arm) for row in rows]
        values = [value["mean"] if value else 0.0 for value in found]
        label = f"{arm}, n = {results['arms'][arm]['n']}".replace("$", r"\$")
        _bars(axes, index, width, values, found, {"color": looks[arm]["color"], "label": label})
    axes.set_xticks([at + 0.42 - width / 2 for at in range(len(rows))], [row["label"] for row in rows])
    axes.set_title("Scores", loc="left", fontsize=11, fontweight="bold")
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def _bars(
    axes: Axes, index: int, width: float, values: Sequence[float], found: Sequence[Record | None], look: Record
) -> None:
    at = [group + index * width for group in range(len(values))]
    axes.bar(at, values, width, edgecolor="white", linewidth=0.5, **look)
    for x, value, interval in zip(at, values, found, strict=True):
        if interval and interval["low"] is not None:
            below, above = max(0.0, value - interval["low"]), max(0.0, interval["high"] - value)
            axes.errorbar([x], [value], [[below], [above]], color="black", linewidth=1, capsize=2)
