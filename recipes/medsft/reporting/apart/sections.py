"""The tables of further test sets and of omissions, from their own files in the study's folder."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from medsft.evaluation.completeness import validation
from medsft.evaluation.completeness.scores import OMISSIONS
from medsft.files import read_json, read_jsonl
from medsft.records import Json
from medsft.result_records import ALSO_TEST
from medsft.text import Table, change, interval, label, number

FILES = ("*/comparison.json", "*/*/scores.json", f"*/*/{OMISSIONS}")
MOST_OMISSIONS = 200  # statements in one table; the file has all


def files(study: Path) -> list[Path]:
    """Every file that these tables depend on, in a fixed order."""
    further = [path for pattern in FILES for path in sorted((study / ALSO_TEST).glob(pattern))]
    return [*sorted(study.glob(f"*/{OMISSIONS}")), *further]


def tables(study: Path) -> list[Table]:
    """One table for each further test set, and for the study and each of them one of what the answers leave out."""
    sets = [path.parent for path in sorted((study / ALSO_TEST).glob("*/comparison.json"))]
    found = [further_test(folder) for folder in sets]
    return [*found, *(omissions(folder) for folder in (study, *sets))]


def further_test(folder: Path) -> Table:
    """The scores of every arm on rows of another source, and the difference from the baseline."""
    comparison = read_json(folder / "comparison.json")
    arms = {path.parent.name: read_json(path) for path in sorted(folder.glob("*/scores.json"))}
    differences = {(row["arm"], row["metric"]): row for row in (*comparison["comparisons"], *comparison["explored"])}
    names = [
        *comparison["settings"]["primary"],
        *(["completeness"] if "completeness" in comparison["settings"] else []),
    ]
    rows = [
        [arm, label(name), str(metric.get("n", scores["n"])), f"{number(metric['mean'])} {interval(metric)}", cell]
        for arm, scores in arms.items()
        for name in names
        if (metric := scores["metrics"].get(name))
        for cell in [change(differences.get((arm, name)))]
    ]
    note = (
        "Rows of another source, answered by the same arms and scored apart: no number here is part of the comparison "
        "above. n are answers; intervals are over groups."
    )
    if record := _read_by(comparison):
        note += f" {validation.in_short(record)}"
    heads = ["arm", "metric", "n", "mean", "minus the baseline"]
    return Table(f"Another test set: {folder.name}", note, heads, rows, f"also_test/{folder.name}/comparison.json")


def omissions(folder: Path) -> Table:
    """The must-have statements that answers leave out or contradict, by example."""
    rows = [*_omitted(folder)]
    where = f" ({folder.parent.name}/{folder.name})" if folder.parent.name == ALSO_TEST else ""
    note = f"By the reading that made 'completeness'. {_worth(folder)}"
    if len(rows) > MOST_OMISSIONS:
        note += f" The first {MOST_OMISSIONS} of {len(rows)} are shown."
    heads = ["example", "arm", "what", "statement"]
    title = f"What the answers leave out{where}"
    return Table(title, note, heads, rows[:MOST_OMISSIONS], f"<arm>/{OMISSIONS}", "The data have no statements.")


def _omitted(folder: Path) -> Iterator[list[str]]:
    for path in sorted(folder.glob(f"*/{OMISSIONS}")):
        for row in read_jsonl(path):
            for what in ("omitted", "contradicted"):
                yield from ([str(row["id"]), path.parent.name, what, text] for text in row[what])


def _worth(folder: Path) -> str:
    comparison = folder / "comparison.json"
    record = _read_by(read_json(comparison) if comparison.is_file() else {})
    if not record or not record["accuracy"]:
        return validation.in_short(record) if record else ""
    return ". ".join(validation.sentences(f"The {record['read_by']}", record["accuracy"])) + "."


def _read_by(comparison: Mapping[str, Json]) -> Json:
    """What read the statements, and how often it is wrong; {} where none were scored."""
    found: Json = comparison.get("settings", {}).get("completeness") or {}
    return found
