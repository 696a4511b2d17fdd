"""The report's section on the source study's faults: two tables and a figure over what `faults` found."""

from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from medsft.text import Table, count, interval, label, number

Json = dict[str, Any]
PANELS = ("nll", "end_of_turn", "rougeL")
COLOUR, LINE = "#0072B2", "#6b6b6b"


def verdict(results: Json) -> list[str]:
    """Two sentences: what each fault changes as far as intervals show it, and what one test case could have said."""
    changes = {row["fault"]: shown_changes(row) for row in results["faults"]}
    parts = [f"{fault}: {', '.join(found)}" for fault, found in changes.items() if found]
    silent = [fault for fault, found in changes.items() if not found]
    if silent:
        parts.append(f"no change was seen for: {', '.join(silent)}")
    n = max(row["metrics"]["rouge1"]["n"] for row in results["faults"])
    level = f"{100 * results['confidence']:g} %"
    first = (
        f"Against the arm without faults, on n = {n} held-out dialogues: {'; '.join(parts)} "
        f"({level} intervals, not corrected for their number)."
    )
    cases = [row for row in results["single_cases"] if row["metric"] == "rouge1"]
    if not cases:
        return [first]
    row = cases[-1]
    second = (
        f"Tested on one dialogue, as the source study was, arm {row['arm']} could have come out anywhere from "
        f"{number(row['case_low'], '+')} to {number(row['case_high'], '+')} against the baseline on ROUGE-1, and for "
        f"{100 * row['contrary']:.0f} % of the dialogues not in the direction of the mean over all {row['n']}, "
        f"{number(row['difference'], '+')} {interval(row, '+')}."
    )
    return [first, second]


def shown_changes(row: Json) -> list[str]:
    """The measures of one fault whose interval leaves out 'no change', in words."""
    texts = []
    for name in ("nll", "end_of_turn", "rouge1", "rouge2", "rougeL"):
        value = row["metrics"].get(name)
        if value and not value["low"] <= 0 <= value["high"]:
            texts.append(f"{label(name)} {number(value['difference'], '+')} {interval(value, '+')}")
    speed = row["speed"]
    if speed and not speed["low"] <= 1 <= speed["high"]:
        texts.append(f"a step takes {speed['ratio']:.2f} [{speed['low']:.2f}, {speed['high']:.2f}] times as long")
    return texts


def tables(results: Json) -> list[Table]:
    """What each fault of the source study is worth, and what one test case could have said; none without such arms."""
    return [faults(results), single_cases(results)] if results["faults"] else []


def faults(results: Json) -> Table:
    shown = ("nll", "end_of_turn", "rouge1", "rouge2", "rougeL")
    rows = []
    for row in results["faults"]:
        found, speed, cost = row["metrics"], row["speed"], results["cost"].get(row["arm"], {})
        rows.append(
            [f"{row['fault']} ({row['arm']})"]
            + [
                f"{number(found[name]['difference'], '+')} {interval(found[name], '+')}" if name in found else "–"
                for name in shown
            ]
            + [f"{speed['ratio']:.2f} [{speed['low']:.2f}, {speed['high']:.2f}]" if speed else "–"]
            + [count(cost.get("tokens_seen")), count(cost.get("answer_tokens_seen"))]
        )
    n = " to ".join(str(size) for size in sorted({row["metrics"]["rouge1"]["n"] for row in results["faults"]}))
    note = (
        f"Each arm minus the arm 'sound' on the same {n} held-out dialogues: same rows in the same order, same "
        "adapters and steps, one fault each. Nats per answer token are of the doctor's own words and the end of turn; "
        "lower is better. Time is how many times as long a training step takes, with an interval over the steps of "
        "one run, and means something only where nothing else ran on the machine. Explored, not tested: an interval "
        "that holds 0 (1 for time) shows nothing."
    )
    heads = ["fault", *(label(name) for name in shown), "time of a step, times", "tokens seen", "tokens with loss"]
    return Table("Each fault alone", note, heads, rows, "comparison.json, <arm>/train.json")


def single_cases(results: Json) -> Table:
    rows = [
        [row["arm"], label(row["metric"]), f"{number(row['difference'], '+')} {interval(row, '+')}"]
        + [interval({"low": row["case_low"], "high": row["case_high"]}, "+"), f"{100 * row['contrary']:.0f} %"]
        for row in results["single_cases"]
    ]
    n = " to ".join(str(size) for size in sorted({row["n"] for row in results["single_cases"]}))
    note = (
        f"The source study tested one dialogue. Of the {n} here each could have been the one: the column of single "
        "dialogues holds what 95 % of them show as arm minus baseline, the last one the share of them that show no "
        "difference or one in the other direction."
    )
    heads = ["arm", "metric", "difference, all dialogues", "of single dialogues", "contrary"]
    return Table("An evaluation with n = 1", note, heads, rows, "comparison.json")


def figure(results: Json) -> Figure:
    """One panel each for answer loss, end of turn, ROUGE-L and time: a point with its interval for every fault."""
    rows = results["faults"]
    drawing = Figure(figsize=(6.4, 1.2 + 0.75 * len(rows)), layout="constrained")
    panels = drawing.subplots(2, 2, sharey=True).ravel()
    for panel, name in zip(panels, (*PANELS, "speed"), strict=True):
        for place, row in enumerate(rows):
            value = row["speed"] if name == "speed" else row["metrics"].get(name)
            if value:
                panel.plot([value["low"], value["high"]], [place, place], color=COLOUR, linewidth=2)
                panel.plot([value["ratio" if name == "speed" else "difference"]], [place], "o", color=COLOUR)
        panel.axvline(1 if name == "speed" else 0, color=LINE, linestyle="--", linewidth=1)
        title = "time of a step, times" if name == "speed" else label(name)
        panel.set_title(title, loc="left", fontsize=11, fontweight="bold")
        panel.grid(axis="x", color="#dddddd", linewidth=0.6)
        panel.xaxis.set_major_locator(MaxNLocator(4))
    panels[0].set_yticks(range(len(rows)), [row["arm"].removeprefix("fault_").replace("_", " ") for row in rows])
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    return drawing
