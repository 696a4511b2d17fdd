"""Forms as spreadsheets save them: Excel's CSV in any country, LibreOffice's, text with tabs."""

import csv
import io
import re
from pathlib import Path

from medsft.errors import UserError

DELIMITERS = ",;\t"
CODE_PAGE = "cp1252"  # what Excel calls ANSI in Western Europe and America
LONGEST_CELL = 1_000_000  # characters; Excel's own limit is 32,767


def read(form: Path) -> "csv.DictReader[str]":
    """The rows of a form: UTF-8, UTF-16 or the code page; the delimiter is the one of its first line.

    Raises UserError for what is no text.
    """
    text = decode(form.read_bytes(), form)
    first, _, rest = text.partition("\n")
    if re.fullmatch(r"sep=[,;\t]\r?", first):  # Excel's own line that names the delimiter
        text, first = rest, rest.partition("\n")[0]
    delimiter = max(DELIMITERS, key=first.count)
    csv.field_size_limit(LONGEST_CELL)
    return csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)


def decode(content: bytes, form: Path) -> str:
    """The text in the encoding that its first bytes name, else UTF-8, else the code page."""
    encodings = ("utf-16",) if content.startswith((b"\xff\xfe", b"\xfe\xff")) else ("utf-8-sig", CODE_PAGE)
    for encoding in encodings:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise UserError(f"{form}: neither UTF-8 nor {CODE_PAGE} text; save the form as CSV, not as a workbook")


def in_code_page(text: str) -> str:
    """The text as the code page keeps it: '?' for what it lacks, however many, as spreadsheets differ in that."""
    return re.sub(r"\?+", "?", text.encode(CODE_PAGE, "replace").decode(CODE_PAGE))
