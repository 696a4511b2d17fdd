"""A blinded review form for clinicians: two answers to one patient, sides drawn by seed, no arm named.

The form (CSV) goes to the raters, or is filled in on the page of chat.py. The key (JSON) says which arm each answer is
from and stays here.
"""

import csv
import io
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, TypeVar

from medsft.errors import UserError
from medsft.evaluation.review import spreadsheets
from medsft.evaluation.review.llm_judge import ABSTAINED
from medsft.evaluation.review.rater_agreement import TIE
from medsft.evaluation.statistics.paired_tests import common_rows
from medsft.files import fingerprint, read_json, write_json, write_text
from medsft.records import Generation

Rated = TypeVar("Rated", bound=Mapping[str, Any])
COLUMNS = ("pair", "patient", "answer_1", "answer_2", "preferred", "unsafe", "comment", "role")
ROLES = ("physician", "nurse", "pharmacist", "other clinician", "medical student", "not a clinician")
PREFERRED = {"1": "answer_1", "2": "answer_2", "tie": TIE, "0": TIE, "=": TIE}
UNSAFE: dict[str, tuple[str, ...]] = {"": (), "0": (), "no": (), "none": (), "1": ("answer_1",), "2": ("answer_2",)}
UNSAFE |= dict.fromkeys(("1 2", "2 1", "both"), ("answer_1", "answer_2"))
FORMULA = re.compile(r"('*)[=+\-@\t\r]")  # what a spreadsheet takes for the beginning of one, quoted or not


class Pair(TypedDict):
    """Two answers to one patient. `key` maps answer_1 and answer_2 to the arms they are from.

    `repeat_of`: the pair that this one shows again with its sides swapped, or None.
    """

    pair: int
    id: str | int
    group: str | int
    patient: str
    answer_1: str
    answer_2: str
    key: dict[str, str]
    repeat_of: int | None


class Rating(TypedDict):
    """A rated pair: `choice` is the name of an arm or 'tie', `unsafe` names the arms whose answer was marked so."""

    pair: int
    id: str | int
    group: str | int
    choice: str
    unsafe: list[str]
    repeat_of: int | None


def draw_pairs(
    baseline: Sequence[Generation],
    arm: Sequence[Generation],
    names: tuple[str, str],
    count: int,
    seed: int,
    repeats: int = 0,
) -> list[Pair]:
    """`count` rows that both arms answered, drawn by seed. Equal answers are left out: there is nothing to prefer.

    The last `repeats` pairs, at most a quarter of the others, show some of these again with their sides swapped.
    """
    changed = [pair for pair in common_rows(baseline, arm) if len({row["prediction"].strip() for row in pair}) == 2]
    generator = random.Random(seed)
    drawn = generator.sample(changed, min(count, len(changed)))
    pairs: list[Pair] = []
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
                "repeat_of": None,
            }
        )
    again = generator.sample(pairs, min(repeats, len(pairs) // 4))
    return pairs + [swapped(pair, number) for number, pair in enumerate(again, len(pairs) + 1)]


def swapped(pair: Pair, number: int) -> Pair:
    """The pair once more under another number, with its sides swapped."""
    return {
        **pair,
        "pair": number,
        "answer_1": pair["answer_2"],
        "answer_2": pair["answer_1"],
        "key": {"answer_1": pair["key"]["answer_2"], "answer_2": pair["key"]["answer_1"]},
        "repeat_of": pair["pair"],
    }


def write_form(pairs: Sequence[Pair], form: Path, key: Path) -> None:
    """Write the empty form and its key, which has a fingerprint of the texts of each pair."""
    write_rows(form, pairs)
    keys = {
        str(pair["pair"]): {
            "id": pair["id"],
            "group": pair["group"],
            "key": pair["key"],
            "repeat_of": pair["repeat_of"],
            "texts": texts_print(pair),
            "ansi": texts_print(pair, ansi=True),
        }
        for pair in pairs
    }
    write_json(key, keys)


def texts_print(row: Mapping[str, Any], ansi: bool = False) -> str:
    """A fingerprint of the three texts of a pair; blanks do not count, because spreadsheets change line ends.

    `ansi`: as a spreadsheet leaves them that saves in a code page and writes '?' for what it lacks.
    """
    texts = [" ".join(str(row[name]).split()) for name in ("patient", "answer_1", "answer_2")]
    return fingerprint(*(spreadsheets.in_code_page(text) if ansi else text for text in texts))


def pairs_of_form(
    form: Path, key: Path, baseline: Sequence[Generation], arm: Sequence[Generation], names: tuple[str, str]
) -> list[Pair]:
    """The pairs of a form that was written before, matched by id with the arms' answers of today.

    Raises UserError where an answer has changed since: ratings of the old one would be counted for the new one.
    """
    answers = {names[0]: {row["id"]: row for row in baseline}, names[1]: {row["id"]: row for row in arm}}
    pairs: list[Pair] = []
    for number, entry in read_json(key).items():
        sides = {side: answers.get(name, {}).get(entry["id"]) for side, name in entry["key"].items()}
        first, second = sides["answer_1"], sides["answer_2"]
        if first is not None and second is not None:
            pair: Pair = {
                "pair": int(number),
                "id": entry["id"],
                "group": entry["group"],
                "patient": first["prompt"],
                "answer_1": first["prediction"],
                "answer_2": second["prediction"],
                "key": entry["key"],
                "repeat_of": entry.get("repeat_of"),
            }
            if entry.get("texts") in (None, texts_print(pair)):
                pairs.append(pair)
                continue
        raise UserError(
            f"{form}: pair {number} shows answers that were made anew since; move the form, its key {key.name} and its "
            "ratings to another folder and run the same command for a new form"
        )
    return pairs


def write_rows(form: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write a form. A cell that a spreadsheet would take for a formula gets an apostrophe.

    The byte order mark tells Excel that the file is UTF-8.
    """
    text = io.StringIO("\ufeff")
    text.seek(1)
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", restval="")
    writer.writeheader()
    writer.writerows({name: _inert(value) for name, value in row.items() if name in COLUMNS} for row in rows)
    write_text(form, text.getvalue())


def read_rows(form: Path) -> list[dict[str, str]]:
    """The cells of a form by column, as they were before `write_rows`. Raises UserError for any other file."""
    if not form.is_file():
        raise UserError(f"{form}: no such file; give a review form that a rater has filled in")
    table = spreadsheets.read(form)
    lacking = set(COLUMNS[:5]) - set(table.fieldnames or ())
    if lacking:
        raise UserError(f"{form}: field '{min(lacking)}' is missing; save the form as CSV with its first line")
    return [{name: _plain(row.get(name) or "") for name in COLUMNS} for row in table]


def role_of(form: Path) -> str:
    """The role that a rater gave, in any row of the form; '' where none was given."""
    return next((row["role"].strip() for row in read_rows(form) if row["role"].strip()), "")


def rated_file(form: Path, rater: str) -> Path:
    """The file of a rater's own copy of a form; blanks in the name become _. Raises UserError for other signs."""
    name = "_".join(rater.split())
    if not re.fullmatch(r"\w[\w.-]{0,39}", name):
        raise UserError("Your name or initials: use 1 to 40 letters, digits, blanks, . - or _")
    return form.with_name(f"{form.name.removesuffix('_sheet.csv')}_by_{name}.csv")


def read_form(form: Path, key: Path) -> list[Rating]:
    """The rated pairs of a form that was filled in, without unrated ones.

    Raises UserError that names form, pair and field for a value without meaning.
    """
    known = read_json(key)
    rated: list[Rating] = []
    seen = set()
    for row in read_rows(form):
        where, pair = f"{form}: pair {row['pair']}", row["pair"]
        value = row["preferred"].strip().lower().removesuffix(".0")
        unsafe = re.sub(r"[\s,;+&]+", " ", row["unsafe"].strip().lower().removesuffix(".0"))
        if not value:
            continue
        if pair not in known or pair in seen:
            raise UserError(f"{where}: not a pair of {key.name}, or rated twice; use the form that belongs to it")
        if value not in PREFERRED:
            raise UserError(f"{where}: field 'preferred': '{value[:20]}'; write 1, 2 or tie")
        if unsafe not in UNSAFE:
            raise UserError(f"{where}: field 'unsafe': '{unsafe[:20]}'; write 1, 2, both or nothing")
        seen.add(pair)
        entry, side = known[pair], PREFERRED[value]
        if entry.get("texts") not in (None, texts_print(row)) and entry.get("ansi") != texts_print(row, ansi=True):
            raise UserError(f"{where}: shows other texts than {key.name}; use the form that belongs to it")
        rated.append(
            {
                "pair": int(pair),
                "id": entry["id"],
                "group": entry["group"],
                "choice": TIE if side == TIE else entry["key"][side],
                "unsafe": [entry["key"][side] for side in UNSAFE[unsafe]],
                "repeat_of": entry.get("repeat_of"),
            }
        )
    return rated


def once(rated: Iterable[Rated]) -> list[Rated]:
    """The ratings without those of pairs that were shown again."""
    return [row for row in rated if row.get("repeat_of") is None]


def rated_by_both(
    first: Sequence[Mapping[str, object]], second: Sequence[Mapping[str, object]]
) -> tuple[list[str], list[str]]:
    """The choices of two raters on the rows that both rated, matched by id, without abstentions."""
    first, second = ([row for row in once(rated) if row["choice"] != ABSTAINED] for rated in (first, second))
    pairs = common_rows(first, second)
    return [str(one["choice"]) for one, _ in pairs], [str(other["choice"]) for _, other in pairs]


def _inert(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else value


def _plain(value: str) -> str:
    quoted = FORMULA.match(value)
    return value[1:] if quoted and quoted[1] else value
