"""The arms' answers (generations.jsonl) as scoring reads them: every field checked, the same rows in every arm."""

from pathlib import Path
from typing import Any

from medsft.errors import UserError
from medsft.files import read_json, read_jsonl, sha256_file

BASELINE = "baseline"
FIELDS: dict[str, type | tuple[type, ...]] = {
    "id": (str, int),
    "group": (str, int),
    "source": str,
    "prompt": str,
    "reference": str,
    "prediction": str,
    "stopped": bool,
    "new_tokens": int,
}
Rows = list[dict[str, Any]]


def read_arms(study: Path) -> dict[str, Rows]:
    """The answers of every arm folder that has some, the baseline first.

    Raises UserError when there are none, a row is not as it should be, or an arm shares no row with the baseline.
    """
    arms = {path.parent.name: _read(path) for path in _find(study)}
    asked = {row["id"] for row in arms.get(BASELINE, [])}
    for arm, rows in arms.items():
        if asked and asked.isdisjoint(row["id"] for row in rows):
            where = study / arm / "generations.jsonl"
            raise UserError(f"{where}: field 'id': no row that the {BASELINE} answered; run generate.py again for both")
    return arms


def unanswered(row: dict[str, Any]) -> dict[str, Any]:
    """What every arm's answer to a test row has in common: id, group, source, prompt and reference."""
    *asked, answer = row["messages"]
    speakers = {"user": "Patient: ", "assistant": "Doctor: ", "system": ""}
    prompt = asked[0]["content"] if len(asked) == 1 else "\n".join(speakers[m["role"]] + m["content"] for m in asked)
    return {**{n: row[n] for n in ("id", "group", "source")}, "prompt": prompt, "reference": answer["content"]}


def has_answers(study: Path) -> bool:
    return any(not path.parent.name.startswith(".") for path in study.glob("*/generations.jsonl"))


def all_rows(arms: dict[str, Rows]) -> Rows:
    """Each test row once, in the order of the ids. Raises UserError when two arms disagree on what a row is."""
    by_id: dict[Any, dict[str, Any]] = {}
    for arm, rows in arms.items():
        for number, row in enumerate(rows, 1):
            first = by_id.setdefault(row["id"], row)
            for field in ("group", "prompt", "reference"):
                if first[field] != row[field]:
                    where = f"{arm}/generations.jsonl: row {number}: field '{field}'"
                    raise UserError(f"{where} is not what another arm was given; run generate.py again for both arms")
    return sorted(by_id.values(), key=lambda row: str(row["id"]))


def _find(study: Path) -> list[Path]:
    """Every arm's generations.jsonl, the baseline's first. A folder with a leading dot is what a crash left behind."""
    paths = [path for path in study.glob("*/generations.jsonl") if not path.parent.name.startswith(".")]
    if not paths:
        raise UserError(f"{study}: no arm with a generations.jsonl in it; run generate.py with the same study_dir")
    return sorted(paths, key=lambda path: (path.parent.name != BASELINE, path.parent.name))


def _read(path: Path) -> Rows:
    """The rows of one arm. Raises UserError that names file, row and field when one is missing or of the wrong kind."""
    remedy = "delete the file and run generate.py again"
    record = path.with_name("generation.json")
    expected = read_json(record).get("sha256") if record.is_file() else None
    if expected not in (None, sha256_file(path)):
        raise UserError(f"{path}: changed since it was written; {remedy}")
    rows = read_jsonl(path)
    if not rows:
        raise UserError(f"{path}: no rows; {remedy}")
    seen = set()
    for number, row in enumerate(rows, 1):
        for field, kind in FIELDS.items():
            if not isinstance(row, dict) or not isinstance(row.get(field), kind):
                raise UserError(f"{path}: row {number}: field '{field}' is missing or of the wrong kind; {remedy}")
        if row["id"] in seen:
            raise UserError(f"{path}: row {number}: field 'id' repeats that of an earlier row; {remedy}")
        seen.add(row["id"])
        for field in ("prompt", "reference", "prediction"):  # half surrogate pairs, which no library takes
            row[field] = row[field].encode("utf-8", "replace").decode("utf-8")
    return rows
