"""Turn a scored study into one report: report.html (offline, one file), report.md (two pages), results.json, figures.

    python recipes/report.py --study_dir runs/demo
    python recipes/report.py --study_dir runs/demo --examples 40 --seed 7 --title "LoRA against full fine-tuning"

Reads data/data_report.json, plan.json, comparison.json, people's ratings in review/ and each arm's train.json,
scores.json and generations.jsonl; writes STUDY_DIR/report/, with tables/ (CSV, LaTeX) and methods.md for a paper. Every
sentence is computed from these files, never written by hand.
"""

from typing import TYPE_CHECKING

from medsft.arguments import ReportArguments
from medsft.cli import run
from medsft.config import parse
from medsft.text import label, number

if TYPE_CHECKING:
    from medsft.result_records import Results

MOST_METRICS = 4  # side by side


def main() -> None:
    (arguments,) = parse([ReportArguments])

    from medsft.reporting.report import OUTPUTS, write_report
    from medsft.reporting.summary import trial

    folder, results, already_done = write_report(arguments)
    if already_done:
        print(f"already done: {folder / 'report.html'}")
    print_scores(results)
    if results["trial"]:
        print(trial.sentence(results["trial"]))
    for name, text in results["glance"].items():
        print(f"{name} {text}")
    print()
    for name in OUTPUTS:
        print(f"  {folder / name}")


def print_scores(results: "Results") -> None:
    """One line an arm: the first of the declared metrics, training minutes and peak memory; it fits 80 columns."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    metrics = results["primary"][:MOST_METRICS]
    table = Table(box=SIMPLE, title="Scores and cost", padding=(0, 1, 0, 0), pad_edge=False)
    for head in ("arm", "n", *map(label, metrics), "minutes", "GB"):
        table.add_column(head, overflow="fold", no_wrap=head == "arm")
    for name, arm in results["arms"].items():
        seconds = results["cost"][name]["wall_seconds"] if name in results["cost"] else None
        measured = results["memory"][name]["measured"] if name in results["memory"] else None
        spent = f"{seconds / 60:.1f}" if seconds else ""
        peak = f"{max(measured['device_bytes'], measured['host_bytes']) / 1e9:.1f}" if measured else ""
        scores = [number(arm["metrics"][m]["mean"]) if m in arm["metrics"] else "" for m in metrics]
        table.add_row(name, str(arm["n"]), *scores, spent, peak)
    Console().print(table)


if __name__ == "__main__":
    run(main, __doc__, ReportArguments)
