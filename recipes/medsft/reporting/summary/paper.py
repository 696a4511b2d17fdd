"""What a paper takes from a study: its tables as CSV and LaTeX, and a paragraph of methods."""

import csv
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medsft.evaluation.ablations import BASELINE, FAULTS
from medsft.files import write_text
from medsft.reporting.sections import tuning
from medsft.reporting.summary import checklist, metric_groups
from medsft.reporting.summary.ratings import counted, who
from medsft.reporting.tables import COST_LABELS, systems
from medsft.reporting.verdict import listed, outcome
from medsft.result_records import Results
from medsft.text import Table, change, count, interval, label, number, pvalue

LATEX = {"&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "\\": r"\textbackslash{}"}
LATEX |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": r"$-$", "–": "--", "↑": r"$\uparrow$"}
LATEX |= {"↓": r"$\downarrow$", "<": r"$<$", ">": r"$>$", "\u00a0": "~", "≥": r"$\geq$"}
LOSS_FAULTS = ("fault_end_of_turn", "fault_everything", "paper")


def write(results: Results, base_models: list[str], folder: Path) -> None:
    """Write tables/NAME.csv and .tex and methods.md into `folder`, the report's."""
    for name, table in tables(results, base_models).items():
        write_text(folder / "tables" / f"{name}.csv", as_csv(table))
        write_text(folder / "tables" / f"{name}.tex", as_latex(table))
    write_text(folder / "methods.md", methods(results, base_models) + "\n")


def tables(results: Results, base_models: list[str]) -> dict[str, Table]:
    """Scores of every metric, differences, cost and the checklist, by the name of their file."""
    return {
        "scores": scores(results),
        "differences": differences(results),
        "cost": cost(results),
        "chart": checklist.table(results, base_models),
    }


def scores(results: Results) -> Table:
    """Mean and interval of every system on every metric, a row for each."""
    rows = [
        [name, group.title, metric_groups.head(metric), number(value["mean"]), interval(value)]
        for name, metrics in systems(results).items()
        for group, some in metric_groups.grouped(metrics)
        for metric in some
        for value in [metrics[metric]]
    ]
    note = f"Means with {100 * results['confidence']:g} % intervals over groups of near-duplicates."
    return Table("Scores on held-out dialogues", note, ["system", "group", "metric", "mean", "interval"], rows, "")


def differences(results: Results) -> Table:
    rows = [
        [row["arm"], row["baseline"], label(row["metric"]), str(row["n"]), change(row)]
        + [pvalue(row["p_holm"]), outcome(row, results["alpha"])]
        for row in [*results["comparisons"], *results["pairs"]]
    ]
    note = "Paired differences of means; p by Holm within the differences from the baseline, and between arms."
    heads = ["arm", "against", "metric", "n", "difference", "Holm p", "shown"]
    return Table("Differences", note, heads, rows, "")


def cost(results: Results) -> Table:
    rows = [
        [COST_LABELS[key], *(count(spent[key]) for spent in results["cost"].values())]  # type: ignore[literal-required]
        for key in COST_LABELS
    ]
    rows += [[text, *cells] for text, cells in tuning.rows(results).items()]
    return Table("Cost of training", "", ["what", *results["cost"]], rows, "")


def as_csv(table: Table) -> str:
    """Comma-separated, with a heading, for any spreadsheet; text that looks like a formula gets an apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.heads)
    writer.writerows([_inert(cell) for cell in row] for row in table.rows)
    return text.getvalue()


def as_latex(table: Table) -> str:
    """A longtable of booktabs."""
    columns = "".join("r" if table.numeric(at) else "l" for at in range(len(table.heads)))
    lines = [r"% needs \usepackage{booktabs,longtable}", rf"\begin{{longtable}}{{{columns}}}"]
    lines += [rf"\caption{{{latex(table.title)}. {latex(table.note)}}}\\", r"\toprule"]
    lines += [" & ".join(map(latex, table.heads)) + r" \\", r"\midrule", r"\endhead"]
    lines += [" & ".join(map(latex, row)) + r" \\" for row in table.rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{longtable}", ""])


def latex(text: str) -> str:
    return re.sub("|".join(map(re.escape, LATEX)), lambda found: LATEX[found[0]], text)


def methods(results: Results, base_models: list[str]) -> str:
    """A paragraph that says what was done, in the past tense, with the numbers of this study."""
    data, terms, plan = results["data"], results["floor_terms"], results["plan"]
    splits = {name: count(part["rows"]) for name, part in data.get("splits", {}).items()}
    trained = [
        f"{arm} ({cost['trainable_percent']:.3g} % of {count(cost['total_parameters'])} parameters, "
        f"{count(cost['steps'])} steps, seed {cost['seed']})"
        for arm, cost in results["cost"].items()
        if cost["trainable_percent"] is not None
    ]
    rated = [f"{arm} by {who(review)}" for arm, review in counted(results).items()]
    untrained = " and the untrained model" if BASELINE in results["arms"] else ""
    level = f"{100 * results['confidence']:g} %"
    sentences = [
        f"We kept {count(data.get('rows_kept'))} of {count(data.get('rows_read'))} patient-doctor dialogues after "
        f"cleaning, de-identification and removal of exact duplicates, and split them {_split_by(data)} "
        f"({', '.join(f'{name} {rows}' for name, rows in splits.items())}).",
        f"From {listed(base_models)} we trained {listed(trained)}." if trained else "No arm was trained.",
        _loss(results),
        f"Every arm{untrained} answered the same held-out messages ({results['decoding']} answers)"
        + (f", with at most {count(terms['max_new_tokens'])} new tokens." if terms["max_new_tokens"] else "."),
        f"Primary metrics were {listed(label(metric) for metric in results['primary'])}; differences were tested "
        f"paired, over groups, with {level} intervals and Holm's correction.",
        "Answers that need no trained model (" + ", ".join(results["floors"]) + ") served as naive baselines."
        if results["floors"]
        else "",
        f"The analysis plan {plan['plan_hash']} was declared {plan['declared']}."
        if plan["plan_hash"]
        else "No analysis plan was declared before the answers.",
        f"Blinded pairs were rated: {listed(rated)}." if rated else "No clinician rated the answers.",
        "Software: medsft " + results["versions"].get("report", {}).get("medsft", "") + ".",
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _split_by(data: Mapping[str, Any]) -> str:
    if not data.get("leaking"):
        return "by groups of near-duplicates"
    return f"as the source study did, so that {count(data['leaking'])} held-out rows have a near-duplicate in training"


def _loss(results: Results) -> str:
    """What the loss was over; arms that carry a fault of the source study in it are named."""
    others = [f"in {arm}: {FAULTS[arm]}" for arm in results["cost"] if arm in LOSS_FAULTS]
    but = f", but {'; '.join(others)}" if others else ""
    return f"The loss covered the doctor's words and the end of turn{but}."


def _inert(cell: str) -> str:
    """A cell that a spreadsheet would take for a formula; a number with its sign stays one."""
    plain = not cell.startswith(("=", "+", "-", "@")) or re.fullmatch(r"[+-]?[\d.,\s\[\]+−-]+", cell)
    return cell if plain else f"'{cell}"
