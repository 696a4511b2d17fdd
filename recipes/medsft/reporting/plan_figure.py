"""The plan as a figure: a stacked bar for each strategy, of one GPU and of the host, beside what the machine has."""

from pathlib import Path

from medsft.hardware.specs import Hardware
from medsft.records import PlanRow

HATCHES = ("", "//", "..", "xx", "\\\\", "--", "++", "oo", "**")


def draw(rows: list[PlanRow], hardware: Hardware, path: Path) -> None:
    """Write the figure as PNG. Colour never stands alone: categories have hatches, and bars their totals."""
    from matplotlib.figure import Figure

    from medsft.reporting.figures import COLOURS, DPI, NO_METADATA

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
