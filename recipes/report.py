"""Turn a scored study into one report: report.html (offline, one file), report.md, results.json and figures.

    python recipes/report.py --study_dir runs/demo
    python recipes/report.py --study_dir runs/demo --examples 40 --seed 7 --title "LoRA against full fine-tuning"

Reads data/data_report.json, plan.json, comparison.json and each arm's train.json, scores.json and generations.jsonl;
writes STUDY_DIR/report/. The verdict is computed from the comparisons, never written by hand.
"""

from medsft.arguments import ReportArguments
from medsft.cli import run
from medsft.config import parse


def main() -> None:
    (arguments,) = parse([ReportArguments])

    from medsft.reporting.report import OUTPUTS, write_report

    folder, results, already_done = write_report(arguments)
    if already_done:
        print(f"already done: {folder / 'report.html'}")
    print()
    for sentence in results["verdict"]:
        print(sentence)
    print()
    for name in OUTPUTS:
        print(f"  {folder / name}")


if __name__ == "__main__":
    run(main, __doc__, ReportArguments)
