"""Labelled messages and answers: JSON Lines with `id`, `text` and `emergency` or `urgent`."""

import json
from pathlib import Path
from typing import NotRequired, TypedDict, cast

from medsft.errors import UserError
from medsft.evaluation.safety_instrument.classifier import LABELS, Kind

OPTIONAL: dict[str, type] = {"category": str, "why": str, "hard": bool, "conditional": bool}


class Labelled(TypedDict):
    """One labelled text. `label`: a message is an emergency, or an answer is urgent."""

    id: str
    text: str
    label: bool
    hard: NotRequired[bool]


def read(path: Path, kind: Kind) -> list[Labelled]:
    """The rows of a file. Raises UserError naming file, row, field and remedy for the first that is wrong."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; give a JSON Lines file with id, text and {LABELS[kind]} in each row")
    rows: list[Labelled] = []
    seen: set[str] = set()
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        row = _checked(line, f"{path}: row {number}", LABELS[kind])
        if row["id"] in seen:
            raise UserError(f"{path}: row {number}: field 'id' repeats '{row['id']}'; give each row an id of its own")
        seen.add(row["id"])
        rows.append(row)
    if not rows:
        raise UserError(f"{path}: no rows; write one JSON object a line with id, text and {LABELS[kind]}")
    return rows


def _checked(line: bytes, where: str, label: str) -> Labelled:
    try:
        row = json.loads(line.decode("utf-8"))
    except ValueError as error:
        raise UserError(f"{where} is not JSON in UTF-8; write one JSON object a line") from error
    if not isinstance(row, dict):
        raise UserError(f"{where} is not an object; write {{'id': ..., 'text': ..., '{label}': true or false}}")
    identifier = row.get("id")
    if not isinstance(identifier, (str, int)) or isinstance(identifier, bool) or not str(identifier).strip():
        raise UserError(f"{where}: field 'id' is missing or no name; give each row an id of its own")
    if not isinstance(row.get("text"), str) or not row["text"].strip():
        raise UserError(f"{where}: field 'text' is missing or empty; give the text that is labelled, or delete the row")
    if not isinstance(row.get(label), bool):
        raise UserError(f"{where}: field '{label}' is missing or not true or false; label the row, or delete it")
    for name, kind in OPTIONAL.items():
        if name in row and row[name] is not None and not isinstance(row[name], kind):
            raise UserError(f"{where}: field '{name}' is not of type {kind.__name__}; correct it, or leave it out")
    kept = {"id": str(identifier), "text": row["text"], "label": row[label]}
    return cast("Labelled", kept | ({"hard": True} if row.get("hard") else {}))
