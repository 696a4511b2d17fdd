"""Rows of a file in any known format. The format is detected by the content, never by the name.

To add a format, write a function that yields its rows, and choose it in `rows_by_content`; add its file ending to
ENDINGS, its name to FORMATS, and a file of it to tests/data/test_file_formats.py.
"""

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

from medsft.data.reading.arrow_formats import ARROW_FILE, ARROW_STREAM, PARQUET, arrow_rows, parquet_rows
from medsft.data.reading.meddialog_dump import dump_rows, is_dump
from medsft.data.reading.source_file import SourceFile, shortened, source_file
from medsft.data.reading.text_formats import csv_rows, delimiter_of, json_lines, json_rows, one_value_a_line, text_lines
from medsft.errors import UserError

FORMATS = "JSON, JSON Lines, CSV, TSV, Parquet, Arrow and MedDialog's text dumps, also packed by gzip or zstd"
ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".txt")  # of the files that a folder is read for
PACKED_ENDINGS = (".gz", ".zst")
HEAD = 20  # lines that a text format is detected by
OTHERS = {  # formats that are not read, by their first bytes
    b"PK": "a zip archive or an Excel workbook; unpack it, or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel or Word file; save the sheet as CSV",
    b"BZh": "packed by bzip2; unpack it first",
    b"\xfd7zXZ": "packed by xz; unpack it first",
    b"%PDF": "a PDF; export the dialogues as CSV or JSON",
    b"SQLite": "an SQLite database; export the table as CSV",
}


def file_rows(path: Path) -> Iterator[object]:
    """Rows of a file, in order: a dict each, or whatever else is there.

    Raises UserError, naming the file and the remedy, where the file cannot be read to its end.
    """
    packed, first, number = None, b"", 0
    try:
        file = source_file(path)
        packed = file.packed
        with file.open() as stream:
            first = stream.read(len(ARROW_FILE))
        for number, row in enumerate(rows_by_content(file, first), 1):  # noqa: B007 - used in the error messages
            yield row
    except OSError as error:  # Arrow raises the errors of zlib, zstd and Parquet as OSError
        if packed is None and not first.startswith((PARQUET, ARROW_FILE, ARROW_STREAM)):
            raise UserError(f"{path}: cannot be read after row {number} ({shortened(error)})") from error
        kind = packed or ("Parquet" if first.startswith(PARQUET) else "Arrow")
        raise UserError(f"{path}: damaged or cut short {kind} after row {number}; fetch the file again") from error


def rows_by_content(file: SourceFile, first: bytes) -> Iterator[object]:
    """The rows, read by the format that the first bytes or lines show. Raises UserError where none does."""
    if first.startswith(PARQUET):
        return parquet_rows(file)
    if first.startswith((ARROW_FILE, ARROW_STREAM)):
        return arrow_rows(file, streamed=first.startswith(ARROW_STREAM))
    if other := next((what for magic, what in OTHERS.items() if first.startswith(magic)), None):
        raise UserError(f"{file.path}: {other}")
    lines = text_lines(file)
    head = list(islice((line for line in lines if line.strip()), HEAD))
    if not head:
        return iter(())
    start = head[0].strip()[0]
    if start in "[{":
        return json_lines(chain(head, lines)) if one_value_a_line(head) else json_rows(file)
    delimiter = delimiter_of(head[0])
    if is_dump(head, delimiter is not None):
        return dump_rows(chain(head, lines))
    if delimiter is not None:
        return csv_rows(file, delimiter)
    raise UserError(f"{file.path}: not a dialogue file; understood are {FORMATS}")
