"""Put several studies side by side: models, seeds, training rows, scores, and the learning curve over training rows.

    python recipes/compare.py --studies "small medium large"
    python recipes/compare.py --studies runs/seed1,runs/seed2 --output_dir runs/seeds

Reads each study's report/results.json and train.json files; writes compare.html (one file, offline), compare.md,
compare.json and curve.png into --output_dir.
"""

import re
from pathlib import Path

from medsft.arguments import CompareArguments
from medsft.cli import run
from medsft.config import parse
from medsft.files import new_folder


def main() -> None:
    (args,) = parse([CompareArguments])

    from medsft.reporting import compare_studies

    named = [Path(name) for name in re.split(r"[\s,]+", args.studies.strip()) if name]
    folders = [path if path.is_dir() or len(path.parts) > 1 else Path("runs") / path for path in named]
    comparison = compare_studies.gather(folders)
    with new_folder(Path(args.output_dir)) as new:
        compare_studies.write(comparison, args.title, new)
    if not comparison["same_test_rows"]:
        print("note: these studies were not tested on the same rows; their scores cannot be compared directly")
    for difference in comparison["scored_otherwise"]:
        print(f"note: not scored alike: {difference}")
    for name in compare_studies.PAGES:
        print(f"  {Path(args.output_dir) / name}")


if __name__ == "__main__":
    run(main, __doc__, CompareArguments)
