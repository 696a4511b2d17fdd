"""Put several studies side by side: what each was made of, its scores, and the learning curve over training rows.

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
from medsft.files import new_folder, write_json, write_text


def main() -> None:
    (args,) = parse([CompareArguments])

    from medsft.reporting import compare_studies
    from medsft.reporting.rendering import data_uri, environment

    named = [Path(name) for name in re.split(r"[\s,]+", args.studies.strip()) if name]
    folders = [path if path.is_dir() or len(path.parts) > 1 else Path("runs") / path for path in named]
    found = compare_studies.gather(folders)
    with new_folder(Path(args.output_dir)) as new:
        compare_studies.curve(found).savefig(new / "curve.png", dpi=160, metadata={"Software": None})
        shown = {"title": args.title, "comparison": found, "curve": data_uri(new / "curve.png")}
        write_text(new / "compare.html", environment(autoescape=True).get_template("compare.html.j2").render(shown))
        write_text(new / "compare.md", environment(autoescape=False).get_template("compare.md.j2").render(shown))
        write_json(new / "compare.json", {"title": args.title, **found})
    if not found["same_test_rows"]:
        print("note: these studies were not tested on the same rows; their scores cannot be compared directly")
    for name in ("compare.html", "compare.md", "compare.json"):
        print(f"  {Path(args.output_dir) / name}")


if __name__ == "__main__":
    run(main, __doc__, CompareArguments)
