"""Which statements belong to which test row: carried with the row from its source, or given apart in a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from medsft.data.groups.near_duplicates import jaccard, shingles, words_of
from medsft.data.reading.row_fields import BadRow, RawRow
from medsft.data.reading.statements import Statement, read_statements
from medsft.errors import UserError
from medsft.evaluation.metrics.conversation import patient_text
from medsft.files import read_jsonl, sha256_file
from medsft.records import Json, Question

NEAR = 0.7  # Jaccard similarity of questions: the prepared one lost its greeting and its names
Statements = dict[str | int, list[Statement]]


class Given(NamedTuple):
    """A row of a file of statements."""

    id: str
    question: str
    statements: list[Statement]


def statements_of(rows: Sequence[Question], file: str) -> Statements:
    """The statements of each test row that has some, from `file` if one is given.

    Raises UserError for a bad row, and where the file's rows belong to no test row.
    """
    if not file:
        carried = {row["id"]: _checked(row, f"generations.jsonl: row {row['id']}") for row in rows}  # type: ignore[arg-type]
        return {name: found for name, found in carried.items() if found}
    given = read_file(Path(file))
    by_id = {row.id: row for row in given if row.id}
    asked = {_plain(row.question): row for row in given if row.question}
    shingled = [(shingles(words), row) for words, row in asked.items() if words]
    found: Statements = {}
    for row in rows:
        words = _plain(patient_text(row["messages"]))
        match = by_id.get(str(row["id"])) or asked.get(words)
        if match is None and words and shingled:
            own = shingles(words)
            likeness, match = max(((jaccard(own, other), one) for other, one in shingled), key=lambda m: m[0])
            match = match if likeness >= NEAR else None
        if match is not None:
            found[row["id"]] = match.statements
    if not found:
        raise UserError(f"{file}: none of its {len(given)} rows has the id or the question of a test row")
    return found


def by_content(options: Json) -> Json:
    """Options of score.py in which files of statements and labels count by their content, for fingerprints."""
    files = {name: options[name] for name in ("statements", "statement_labels") if options[name]}
    return options | {name: sha256_file(Path(file)) for name, file in files.items() if Path(file).is_file()}


def read_file(path: Path) -> list[Given]:
    """The rows of a file of statements, JSON Lines. Raises UserError naming file, row, field and remedy."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; give JSON Lines with id or question, and statements")
    rows = []
    for number, row in enumerate(read_jsonl(path), 1):
        where = f"{path}: row {number}"
        if not isinstance(row, dict):
            raise UserError(f"{where} is not an object; write {{'question': ..., 'statements': [...]}}")
        question = next((row[name] for name in ("question", "Question", "patient_message") if name in row), "")
        if not isinstance(question, str) or not (question.strip() or "id" in row):
            raise UserError(f"{where}: field 'question' is missing or no text; give the question, or the test row's id")
        statements = _checked(row, where)
        if not statements:
            raise UserError(f"{where}: field 'statements' is missing or empty; list what the answer must say")
        rows.append(Given(str(row.get("id", "")), question, statements))
    if not rows:
        raise UserError(f"{path}: no rows; write one JSON object a line with question and statements")
    return rows


def _checked(row: RawRow, where: str) -> list[Statement]:
    try:
        return read_statements(row)
    except BadRow as bad:
        reason = bad.reason.replace("_", " ")
        raise UserError(
            f"{where}: field '{bad.field}': {reason}; list texts, or objects with text, must_have and points"
        ) from bad


def _plain(text: str) -> str:
    return " ".join(words_of(text.lower()))
