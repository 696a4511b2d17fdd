"""Public suites: samples that lm-evaluation-harness wrote (`lm_eval --log_samples`), as rows for the same paired tests.

Its files are DIR/ARM/.../samples_TASK_TIME.jsonl, where DIR/ARM is the --output_path of the arm's run. Each row has
`doc_id`, `doc_hash`, `filter`, the names of its `metrics`, and a value for each of them.
"""

import re
from pathlib import Path

from medsft.errors import UserError
from medsft.evaluation.forgetting.answering import Row
from medsft.files import fingerprint, read_jsonl
from medsft.records import Json

# the first of them that a task reports is read: strict instructions of IFEval, choices, matches
METRICS = ("prompt_level_strict_acc", "acc", "exact_match", "acc_norm", "pass@1")
FILE = re.compile(r"samples_(.+)_(\d{4}-\d\d-\d\dT[\d.:-]+)\.jsonl")
LONGEST = 80  # characters of an answer (a text, or the likelihoods of the choices) that are kept


def arms(folder: Path) -> dict[str, Path]:
    """The folders in `folder` that hold samples, by arm. Raises UserError where there are none, or no baseline's."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the one whose folders are named after the arms")
    found = {
        path.name: path for path in sorted(folder.iterdir()) if path.is_dir() and any(path.rglob("samples_*.jsonl"))
    }
    if "baseline" not in found or len(found) < 2:
        raise UserError(
            f"{folder}: samples of the baseline and of another arm are needed, there are those of "
            f"{', '.join(found) or 'none'}; run lm_eval --log_samples --output_path {folder}/ARM for each"
        )
    return found


def read(folder: Path) -> tuple[list[Row], dict[str, float]]:
    """The rows of one arm: of each task its newest file, and of that its first filter. And chance by row, above 0.

    Raises UserError naming file and row where a field is missing or no metric of it is right or wrong.
    """
    newest: dict[str, Path] = {}
    for path in sorted(folder.rglob("samples_*.jsonl"), key=lambda path: _name(path)[1]):
        newest[_name(path)[0]] = path
    found = [pair for task, path in sorted(newest.items()) for pair in _rows(task, path)]
    return [row for row, _ in found], {row["id"]: chance for row, chance in found if chance}


def _name(path: Path) -> tuple[str, str]:
    """Task and time of a file of samples."""
    match = FILE.fullmatch(path.name)
    if match is None:
        raise UserError(f"{path}: not named samples_TASK_TIME.jsonl, as lm_eval names it; rename or remove it")
    return match[1], match[2]


def _rows(task: str, path: Path) -> list[tuple[Row, float]]:
    samples = read_jsonl(path)
    rows: list[tuple[Row, float]] = []
    first: object = None
    for number, sample in enumerate(samples, 1):
        where = f"{path}: row {number}"
        if not isinstance(sample, dict) or "doc_id" not in sample:
            raise UserError(f"{where}: field 'doc_id' is missing; this is no file of lm_eval --log_samples")
        first = sample.get("filter") if number == 1 else first
        if sample.get("filter") == first:
            row: Row = {
                "id": f"{task}/{sample['doc_id']}",
                "kind": task,
                "correct": _correct(sample, where),
                "answer": str(sample.get("filtered_resps", ""))[:LONGEST],
                "item": str(sample.get("doc_hash") or fingerprint(sample.get("doc"))),
            }
            rows.append((row, _chance(sample)))
    if not rows:
        raise UserError(f"{path}: no rows; run lm_eval again")
    return rows


def _correct(sample: Json, where: str) -> int:
    for metric in METRICS:
        if metric in sample:
            if sample[metric] not in (0, 1):
                found = f"field '{metric}' is {str(sample[metric])[:40]}, neither 0 nor 1"
                raise UserError(f"{where}: {found}; remove the file, as this task is not right or wrong")
            return int(sample[metric])
    raise UserError(f"{where}: none of the fields {', '.join(METRICS)}; remove the file, as this task cannot be read")


def _chance(sample: Json) -> float:
    """One in the number of choices, where their likelihoods are given; else 0."""
    given = sample.get("filtered_resps")
    choices = given if isinstance(given, list) and all(isinstance(each, list) for each in given) else []
    return round(1 / len(choices), 6) if len(choices) > 1 else 0.0
