"""The report's section on the ablations: verdict, two tables and a figure on each fault of the source study."""

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from medsft.result_records import AblationRow, Results, Slowdown
from medsft.text import Table, change, count, excludes_zero, interval, label, number

METRICS = ("nll", "end_of_turn", "rouge1", "rouge2", "rougeL")
PANELS = ("nll", "end_of_turn", "rougeL")
COLOUR, LINE = "#0072B2", "#6b6b6b"


def verdict(results: Results) -> list[str]:
    """Two sentences: what each fault changes, where an interval shows it, and what one test case could have shown."""
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
        f"Tested on one dialogue, as the source study was, arm {row['arm']} could have scored anywhere from "
        f"{number(row['case_low'], '+')} to {number(row['case_high'], '+')} against the baseline on ROUGE-1, and for "
        f"{100 * row['contrary']:.0f} % of the dialogues against the direction of the mean over all {row['n']}, "
        f"{change(row)}."
    )
    return [first, second]


def shown_changes(row: AblationRow) -> list[str]:
    """The measures of one fault whose interval excludes no change, in words."""
    texts = []
    for name in METRICS:
        value = row["metrics"].get(name)
        if value and excludes_zero(value):
            texts.append(f"{label(name)} {change(value)}")
    speed = row["speed"]
    if speed and not speed["low"] <= 1 <= speed["high"]:
        texts.append(f"a step takes {_ratio(speed)} times as long")
    return texts


def tables(results: Results) -> list[Table]:
    """What each fault changes, and what one test case could have shown; none in a study without ablations."""
    return [faults(results), single_cases(results)] if results["faults"] else []


def faults(results: Results) -> Table:
    rows = []
    for row in results["faults"]:
        found, speed, cost = row["metrics"], row["speed"], results["cost"].get(row["arm"])
        rows.append(
            [f"{row['fault']} ({row['arm']})", *(change(found.get(name)) for name in METRICS)]
            + [_ratio(speed) if speed else "–"]
            + [count(cost["tokens_seen"] if cost else None), count(cost["answer_tokens_seen"] if cost else None)]
        )
    n = " to ".join(str(size) for size in sorted({row["metrics"]["rouge1"]["n"] for row in results["faults"]}))
    note = (
        f"Each arm minus the arm 'sound' on the same {n} held-out dialogues: same rows in the same order, same "
        "adapters and steps, one fault each. Nats per answer token cover the doctor's own words and the end of turn; "
        "lower is better. Time is the ratio of step times, with an interval over the steps of one run; it means "
        "something only where nothing else ran on the machine. Explored, not tested: an interval that contains 0 (1 "
        "for time) shows nothing."
    )
    heads = ["fault", *map(label, METRICS), "time of a step, ratio", "tokens seen", "tokens with loss"]
    return Table("Each fault alone", note, heads, rows, "comparison.json, <arm>/train.json")


def single_cases(results: Results) -> Table:
    rows = [
        [row["arm"], label(row["metric"]), change(row)]
        + [interval({"low": row["case_low"], "high": row["case_high"]}, "+"), f"{100 * row['contrary']:.0f} %"]
        for row in results["single_cases"]
    ]
    n = " to ".join(str(size) for size in sorted({row["n"] for row in results["single_cases"]}))
    note = (
        f"The source study tested one dialogue. Each of the {n} here could have been that one. The column of single "
        "dialogues gives the range of arm minus baseline over 95 % of them; the last column is the share of dialogues "
        "that show no difference, or one in the other direction."
    )
    heads = ["arm", "metric", "difference, all dialogues", "of single dialogues", "contrary"]
    return Table("An evaluation with n = 1", note, heads, rows, "comparison.json")


def figure(results: Results) -> Figure:
    """One panel each for answer loss, end of turn, ROUGE-L and time: a point with its interval for every fault."""
    rows = results["faults"]
    drawing = Figure(figsize=(6.4, 1.2 + 0.75 * len(rows)), layout="constrained")
    panels = drawing.subplots(2, 2, sharey=True).ravel()
    for panel, name in zip(panels, (*PANELS, "speed"), strict=True):
        for position, row in enumerate(rows):
            if found := _point(row, name):
                middle, low, high = found
                if low is not None and high is not None:
                    panel.plot([low, high], [position, position], color=COLOUR, linewidth=2)
                panel.plot([middle], [position], "o", color=COLOUR)
        panel.axvline(1 if name == "speed" else 0, color=LINE, linestyle="--", linewidth=1)
        title = "time of a step, ratio" if name == "speed" else label(name)
        panel.set_title(title, loc="left", fontsize=11, fontweight="bold")
        panel.grid(axis="x", color="#dddddd", linewidth=0.6)
        panel.xaxis.set_major_locator(MaxNLocator(4))
    panels[0].set_yticks(range(len(rows)), [row["arm"].removeprefix("fault_").replace("_", " ") for row in rows])
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    return drawing


def _point(row: AblationRow, name: str) -> tuple[float, float | None, float | None] | None:
    """The value and the interval of one measure, or of the speed."""
    if name == "speed":
        speed = row["speed"]
        return (speed["ratio"], speed["low"], speed["high"]) if speed else None
    value = row["metrics"].get(name)
    return (value["difference"], value["low"], value["high"]) if value else None


def _ratio(speed: Slowdown) -> str:
    return f"{speed['ratio']:.2f} [{speed['low']:.2f}, {speed['high']:.2f}]"
