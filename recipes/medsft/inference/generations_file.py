"""The file of answers (generations.jsonl): its rows, checked when read, and the same test rows in every arm."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import cast

from medsft.errors import UserError
from medsft.files import read_json, read_jsonl, sha256_file
from medsft.records import Generation, Json, Question, SplitRow, Turn

BASELINE = "baseline"
FIELDS: dict[str, type | tuple[type, ...]] = {
    "id": (str, int),
    "group": (str, int),
    "source": str,
    "prompt": str,
    "messages": list,
    "reference": str,
    "prediction": str,
    "stopped": bool,
    "new_tokens": int,
}
LABELS = {"user": "Patient: ", "assistant": "Doctor: ", "system": "System: "}  # of the turns in `prompt`
REMEDY = "delete the file and run generate.py again"


def question(row: SplitRow) -> Question:
    """What every arm is asked of a test row, and the doctor's answer to it."""
    *asked, answer = row["messages"]
    statements = row.get("statements")
    labelled = "\n".join(LABELS[turn["role"]] + turn["content"] for turn in asked)
    found: Question = {
        "id": row["id"],
        "group": row["group"],
        "source": row["source"],
        "prompt": asked[0]["content"] if len(asked) == 1 else labelled,
        "messages": [{"role": turn["role"], "content": turn["content"]} for turn in asked],
        "reference": answer["content"],
    }
    return {**found, "statements": statements} if statements else found


def read_arms(study: Path) -> dict[str, list[Generation]]:
    """The answers of every arm folder that has some, the baseline first.

    Raises UserError when there are none, a row is not as it should be, or an arm shares no row with the baseline.
    """
    arms = {path.parent.name: _read_checked(path) for path in _find(study)}
    asked = {row["id"] for row in arms.get(BASELINE, [])}
    for arm, rows in arms.items():
        if asked and asked.isdisjoint(row["id"] for row in rows):
            where = study / arm / "generations.jsonl"
            raise UserError(f"{where}: field 'id': no row that the {BASELINE} answered; run generate.py again for both")
    return arms


def read_rows(path: Path) -> list[Generation]:
    """The rows of one file of answers, unchecked."""
    return _with_messages(read_jsonl(path))


def has_answers(study: Path) -> bool:
    return any(not path.parent.name.startswith(".") for path in study.glob("*/generations.jsonl"))


def all_rows(arms: Mapping[str, Sequence[Generation]]) -> list[Question]:
    """Each test row once, in the order of the ids. Raises UserError when two arms disagree on what a row is."""
    by_id: dict[str | int, Generation] = {}
    for arm, rows in arms.items():
        for number, row in enumerate(rows, 1):
            first = by_id.setdefault(row["id"], row)
            for field in ("group", "prompt", "messages", "reference"):
                if cast(Json, first)[field] != cast(Json, row)[field]:
                    where = f"{arm}/generations.jsonl: row {number}: field '{field}'"
                    raise UserError(f"{where} is not what another arm was given; run generate.py again for both arms")
    return sorted(by_id.values(), key=lambda row: str(row["id"]))


def _find(study: Path) -> list[Path]:
    """Every arm's generations.jsonl, the baseline's first. Folders with a leading dot are left over from a crash."""
    paths = [path for path in study.glob("*/generations.jsonl") if not path.parent.name.startswith(".")]
    if not paths:
        raise UserError(f"{study}: no arm with a generations.jsonl in it; run generate.py with the same study_dir")
    return sorted(paths, key=lambda path: (path.parent.name != BASELINE, path.parent.name))


def _read_checked(path: Path) -> list[Generation]:
    """The rows of one arm. Raises UserError that names file, row and field when one is missing or of the wrong kind."""
    record = path.with_name("generation.json")
    expected = read_json(record).get("sha256") if record.is_file() else None
    if expected not in (None, sha256_file(path)):
        raise UserError(f"{path}: changed since it was written; {REMEDY}")
    rows = read_jsonl(path)
    if not rows:
        raise UserError(f"{path}: no rows; {REMEDY}")
    seen = set()
    for number, row in enumerate(rows, 1):
        if (field := _wrong_field(row)) is not None:
            raise UserError(f"{path}: row {number}: field '{field}' is missing or of the wrong kind; {REMEDY}")
        if row["id"] in seen:
            raise UserError(f"{path}: row {number}: field 'id' repeats that of an earlier row; {REMEDY}")
        seen.add(row["id"])
    return _with_messages(rows)


def _wrong_field(row: object) -> str | None:
    """The first field of a row that is missing or of the wrong kind."""
    found = row if isinstance(row, dict) else {}
    for field, kind in FIELDS.items():
        if field == "messages" and field not in found:  # older files
            continue
        if not isinstance(found.get(field), kind):
            return field
    for turn in found.get("messages", []):
        if not isinstance(turn, dict) or not isinstance(turn.get("content"), str) or turn.get("role") not in LABELS:
            return "messages"
    return None


def _with_messages(rows: Iterable[Json]) -> list[Generation]:
    """The rows with their turns: the prompt as one user turn in older files, which have no `messages`.

    Lone surrogates, which no library takes, become question marks.
    """
    found = []
    for row in rows:
        turns: list[Turn] = row.get("messages", [{"role": "user", "content": row["prompt"]}])
        row["messages"] = [{"role": turn["role"], "content": _encodable(turn["content"])} for turn in turns]
        for field in ("prompt", "reference", "prediction"):
            row[field] = _encodable(row[field])
        found.append(cast(Generation, row))
    return found


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
