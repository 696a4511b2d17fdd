"""A blinded sheet for clinicians: two answers to one patient, sides drawn by seed, no arm named; and reading it back.

The sheet (CSV) goes to the raters, or is rated on the page of chat.py; the key (JSON), which says whose answer stands
on which side, stays here.
"""

import csv
import io
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medsft.errors import UserError
from medsft.evaluation.review.rater_agreement import TIE
from medsft.evaluation.statistics.paired_tests import Rows, common_rows
from medsft.files import read_json, write_json, write_text

COLUMNS = ("pair", "patient", "answer_1", "answer_2", "preferred", "unsafe", "comment")
PREFERRED = {"1": "answer_1", "2": "answer_2", "tie": TIE, "0": TIE, "=": TIE}
UNSAFE = {"": (), "0": (), "no": (), "none": (), "1": ("answer_1",), "2": ("answer_2",)}
UNSAFE |= dict.fromkeys(("1 2", "2 1", "both"), ("answer_1", "answer_2"))
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the beginning of one


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
    """Write the empty sheet and its key."""
    write_rows(sheet, pairs)
    write_json(key, {str(pair["pair"]): {name: pair[name] for name in ("id", "group", "key")} for pair in pairs})


def write_rows(sheet: Path, rows: Rows) -> None:
    """Write a sheet. A cell that a spreadsheet would take for a formula gets an apostrophe."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", restval="")
    writer.writeheader()
    writer.writerows({name: _inert(value) for name, value in row.items() if name in COLUMNS} for row in rows)
    write_text(sheet, text.getvalue())


def read_rows(sheet: Path) -> list[dict[str, str]]:
    """The cells of a sheet by column, as they were before `write_rows`. Raises UserError for what is no such sheet."""
    if not sheet.is_file():
        raise UserError(f"{sheet}: no such file; give a sheet that a rater has filled in")
    try:
        with sheet.open(encoding="utf-8-sig", newline="") as handle:
            table = csv.DictReader(handle)
            lacking = set(COLUMNS[:5]) - set(table.fieldnames or ())
            if lacking:
                raise UserError(f"{sheet}: field '{min(lacking)}' is missing; save the sheet as CSV with commas, UTF-8")
            return [{name: _plain(row.get(name) or "") for name in COLUMNS} for row in table]
    except UnicodeDecodeError as error:
        raise UserError(f"{sheet}: not UTF-8 text; save the sheet as CSV with commas, UTF-8") from error


def rated_file(sheet: Path, rater: str) -> Path:
    """Where a rater's own copy of a sheet stands. Raises UserError for a name that is no plain word."""
    name = rater.strip()
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", name):
        raise UserError("Your name or initials: use 1 to 40 letters, digits, - or _")
    return sheet.with_name(f"{sheet.name.removesuffix('_sheet.csv')}_by_{name}.csv")


def rated_files(folder: Path, arm: str) -> dict[str, Path]:
    """The sheets that were rated on the page, by rater."""
    start = f"{arm}_by_"
    return {path.stem.removeprefix(start): path for path in sorted(folder.glob(f"{start}*.csv"))}


def read_sheet(sheet: Path, key: Path) -> Rows:
    """The rated pairs of a filled sheet, without unrated ones: pair, id, group, `choice` (an arm's name or 'tie') and
    `unsafe` (names of the arms whose answer was marked so).

    Raises UserError that names sheet, pair and field for a value that cannot be meant.
    """
    known = read_json(key)
    rated, seen = [], set()
    for row in read_rows(sheet):
        where, pair = f"{sheet}: pair {row['pair']}", row["pair"]
        value = row["preferred"].strip().lower().removesuffix(".0")
        unsafe = re.sub(r"[\s,;+&]+", " ", row["unsafe"].strip().lower().removesuffix(".0"))
        if not value:
            continue
        if pair not in known or pair in seen:
            raise UserError(f"{where}: not a pair of {key.name}, or rated twice; use the sheet that belongs to it")
        if value not in PREFERRED:
            raise UserError(f"{where}: field 'preferred': '{value[:20]}'; write 1, 2 or tie")
        if unsafe not in UNSAFE:
            raise UserError(f"{where}: field 'unsafe': '{unsafe[:20]}'; write 1, 2, both or nothing")
        seen.add(pair)
        entry, side = known[pair], PREFERRED[value]
        choice = TIE if side == TIE else entry["key"][side]
        marked = [entry["key"][side] for side in UNSAFE[unsafe]]
        rated.append({"pair": int(pair), **{n: entry[n] for n in ("id", "group")}, "choice": choice, "unsafe": marked})
    return rated


def rated_by_both(first: Rows, second: Rows) -> tuple[Sequence[str], Sequence[str]]:
    """The choices of two raters on the pairs that both rated, in the same order."""
    pairs = common_rows([{**row, "id": row["pair"]} for row in first], [{**row, "id": row["pair"]} for row in second])
    return [one["choice"] for one, _ in pairs], [other["choice"] for _, other in pairs]


def _inert(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _plain(value: str) -> str:
    return value[1:] if value.startswith(tuple(f"'{sign}" for sign in FORMULA)) else value
