"""A blinded sheet for clinicians: two answers to one patient, sides drawn by seed, no arm named; and reading it back.

The sheet (CSV) goes to the raters; the key (JSON), which says whose answer stands on which side, stays here.
"""

import csv
import io
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medsft.agreement import TIE
from medsft.cli import UserError
from medsft.files import read_json, write_json, write_text
from medsft.significance import Rows, common_rows

COLUMNS = ("pair", "patient", "answer_1", "answer_2", "preferred", "unsafe", "comment")
PREFERRED = {"1": "answer_1", "2": "answer_2", "tie": TIE, "0": TIE, "=": TIE}


def draw_pairs(baseline: Rows, arm: Rows, names: tuple[str, str], count: int, seed: int) -> Rows:
    """`count` rows both arms answered, drawn by seed: pair, id, group, patient, answer_1, answer_2 and `key`.

    `key` maps each side to an arm. Pairs of equal answers are left out: there is nothing to prefer.
    """
    changed = [pair for pair in common_rows(baseline, arm) if len({row["prediction"].strip() for row in pair}) == 2]
    generator = random.Random(seed)
    drawn = generator.sample(changed, min(count, len(changed)))
    pairs = []
    for number, (first, second) in enumerate(drawn, 1):
        sides = [(names[0], first["prediction"]), (names[1], second["prediction"])]
        generator.shuffle(sides)
        pairs.append(
            {
                "pair": number,
                "id": first["id"],
                "group": first["group"],
                "patient": first["prompt"],
                "answer_1": sides[0][1],
                "answer_2": sides[1][1],
                "key": {"answer_1": sides[0][0], "answer_2": sides[1][0]},
            }
        )
    return pairs


def write_sheet(pairs: Rows, sheet: Path, key: Path) -> None:
    """Write the empty sheet and its key. A cell that a spreadsheet would take for a formula gets an apostrophe."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", restval="")
    writer.writeheader()
    writer.writerows({name: _inert(value) for name, value in pair.items() if name in COLUMNS} for pair in pairs)
    write_text(sheet, text.getvalue())
    write_json(key, {str(pair["pair"]): {name: pair[name] for name in ("id", "group", "key")} for pair in pairs})


def read_sheet(sheet: Path, key: Path) -> Rows:
    """The rated pairs of a filled sheet: pair, id, group and `choice` (an arm's name or 'tie'), without unrated ones.

    Raises UserError that names sheet, line and field for a value that cannot be meant.
    """
    known = read_json(key)
    if not sheet.is_file():
        raise UserError(f"{sheet}: no such file; give a sheet that a rater has filled in")
    rated, seen = [], set()
    with sheet.open(encoding="utf-8-sig", newline="") as handle:
        for row in csv.DictReader(handle):
            where = f"{sheet}: pair {row.get('pair')}"
            value = str(row.get("preferred") or "").strip().lower().removesuffix(".0")
            if not value:
                continue
            if row.get("pair") not in known or row["pair"] in seen:
                raise UserError(f"{where}: not a pair of {key.name}, or rated twice; use the sheet that belongs to it")
            if value not in PREFERRED:
                raise UserError(f"{where}: field 'preferred': '{value[:20]}'; write 1, 2 or tie")
            seen.add(row["pair"])
            entry, side = known[row["pair"]], PREFERRED[value]
            choice = TIE if side == TIE else entry["key"][side]
            rated.append({"pair": int(row["pair"]), "id": entry["id"], "group": entry["group"], "choice": choice})
    return rated


def rated_by_both(first: Rows, second: Rows) -> tuple[Sequence[str], Sequence[str]]:
    """The choices of two raters on the pairs that both rated, in the same order."""
    pairs = common_rows([{**row, "id": row["pair"]} for row in first], [{**row, "id": row["pair"]} for row in second])
    return [one["choice"] for one, _ in pairs], [other["choice"] for _, other in pairs]


def _inert(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
