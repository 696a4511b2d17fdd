"""Labelled messages and answers: JSON Lines with `id`, `text` and `emergency` or `urgent`."""

import csv
import json
from functools import partial
from pathlib import Path
from typing import NotRequired, TypedDict, cast

from medsft.data.reading.sources import SAMPLE
from medsft.errors import UserError
from medsft.evaluation.safety_instrument.classifier import LABELS, Kind
from medsft.files import read_labelled
from medsft.records import Json

OPTIONAL: dict[str, type] = {"category": str, "why": str, "hard": bool, "conditional": bool}


class Labelled(TypedDict):
    """One labelled text. `label`: a message is an emergency, or an answer is urgent."""

    id: str
    text: str
    label: bool
    hard: NotRequired[bool]


def read(path: Path, kind: Kind) -> list[Labelled]:
    """The rows of a file. Raises UserError naming file, row, field and remedy for the first that is wrong."""
    label = LABELS[kind]
    example = f"{{'id': ..., 'text': ..., '{label}': true or false}}"
    return read_labelled(path, f"id, text and {label}", example, partial(_checked, label=label))


def sample(kind: Kind) -> list[Labelled]:
    """The embedded sample's messages or answers: consultations of ordinary length, on which nothing was trained.

    The label of both is whether the patient describes a red flag, which the doctor answers with the right urgency.
    """
    rows = [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
    with (SAMPLE.parent / "labels.csv").open(encoding="utf-8", newline="") as handle:
        labels = [*csv.DictReader(handle)]
    column = {"messages": "patient_message", "answers": "doctor_response"}[kind]
    return [
        {"id": label["row"], "text": row[column], "label": label["urgent"] == "true"}
        for row, label in zip(rows, labels, strict=True)
        if "broken" not in label["planted"]
    ]


def _checked(row: Json, where: str, label: str) -> Labelled:
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
