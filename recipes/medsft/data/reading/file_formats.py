"""Raw rows of one file, in order, one at a time. What a file holds is told from its content, never from its name:
JSON, JSON Lines, CSV, TSV, Parquet, Arrow or a MedDialog text dump, plain or packed by gzip or zstd.
"""

import csv
import io
import json
import re
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from medsft.data.reading.meddialog_dump import RECORD, dump_rows
from medsft.errors import UserError

CHUNK = 2**20
GZIP, ZSTD, PARQUET, ARROW_FILE, ARROW_STREAM = (
    b"\x1f\x8b",
    b"\x28\xb5\x2f\xfd",
    b"PAR1",
    b"ARROW1",
    b"\xff\xff\xff\xff",
)
# A field may be as long as memory allows: what is too long for a dialogue is set aside later, row by row.
csv.field_size_limit(2**31 - 1)
GAP = re.compile(r"[\s,]*")


class NotUtf8(str):
    """A line with bytes that are not UTF-8: a bad row, and never a reason to stop."""

    reason = "not_utf8"


def file_rows(path: Path) -> Iterator[Any]:
    """Rows of a file: a dict each, or whatever else stands there.

    Raises UserError, naming the file and the remedy, where the file cannot be read to its end.
    """
    packed, first, number = None, b"", 0
    try:
        packed = compression(path)
        with open_bytes(path, packed) as stream:
            first = stream.read(len(ARROW_FILE))
        for number, row in enumerate(rows_by_content(path, packed, first), 1):  # noqa: B007 - told in the error
            yield row
    except OSError as error:  # zlib's, zstd's and Parquet's complaints reach us as OSError through Arrow
        if packed is None and not first.startswith((PARQUET, ARROW_FILE, ARROW_STREAM)):
            raise UserError(f"{path}: cannot be read after row {number} ({_short(error)})") from error
        kind = packed or ("Parquet" if first.startswith(PARQUET) else "Arrow")
        raise UserError(f"{path}: damaged or cut short {kind} after row {number}; fetch the file again") from error


def compression(path: Path) -> str | None:
    with path.open("rb") as handle:
        magic = handle.read(4)
    return "gzip" if magic.startswith(GZIP) else "zstd" if magic == ZSTD else None


def open_bytes(path: Path, packed: str | None) -> Any:
    """A binary stream of the unpacked content, read as it is needed."""
    import pyarrow

    return pyarrow.input_stream(str(path), compression=packed)


def rows_by_content(path: Path, packed: str | None, first: bytes) -> Iterator[Any]:
    if first.startswith(PARQUET):
        return parquet_rows(path, packed)
    if first.startswith((ARROW_FILE, ARROW_STREAM)):
        return arrow_rows(path, packed, file_format=first.startswith(ARROW_FILE))
    lines = utf8_lines(path, packed)
    head = list(islice((line for line in lines if line.strip()), 20))
    if not head:
        return iter(())
    start = head[0].strip()
    if start[0] == "[" or start[0] == "{" and not _one_object_a_line(head):
        return json_rows(path, packed)
    if start[0] == "{":
        return (parse_line(line) for line in chain(head, lines) if line.strip())  # a blank line is no row
    if any(RECORD.match(line) for line in head):
        return dump_rows(chain(head, lines))
    delimiter = max(",\t;", key=head[0].count)
    if delimiter not in head[0] or "\x00" in head[0]:
        raise UserError(
            f"{path}: not a dialogue file; understood are JSON, JSON Lines, CSV, TSV, Parquet, Arrow and MedDialog's "
            "text dumps, also packed by gzip or zstd"
        )
    return csv_rows(path, packed, delimiter)


def _one_object_a_line(head: list[str]) -> bool:
    if isinstance(_parsed(head[0]), dict):
        return len(head) > 1 or _list_inside(head[0]) is None
    return not head[0].rstrip().endswith(("{", "[", ",", ":"))  # else it is the first line of a spread-out object


def utf8_lines(path: Path, packed: str | None) -> Iterator[str]:
    """Lines with or without a byte order mark. A byte that is not UTF-8 becomes a lone surrogate (PEP 383)."""
    with open_bytes(path, packed) as stream:
        reader = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="\n")
        yield from reader


def parse_line(line: str) -> Any:
    try:
        line.encode()
    except UnicodeEncodeError:
        return NotUtf8(line)
    return _parsed(line)


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):  # ValueError: broken JSON, and integers of more than 4,300 digits
        return line


def csv_rows(path: Path, packed: str | None, delimiter: str) -> Iterator[Any]:
    reader = csv.DictReader(utf8_lines(path, packed), strict=True, delimiter=delimiter)
    try:
        yield from reader
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num} is not valid CSV ({error}); check its quotes") from error


def json_rows(path: Path, packed: str | None) -> Iterator[Any]:
    """Elements of a JSON list, or of the one list of rows inside an object, decoded one by one as the file is read."""
    with open_bytes(path, packed) as stream:
        reader = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape")
        text = reader.read(CHUNK).lstrip()
        if not text.startswith("["):
            rows = _list_inside(text + reader.read())
            if rows is None:
                raise UserError(f"{path}: expected a JSON list of rows, or one object a line; found another object")
            yield from rows
            return
        yield from _elements(path, text[1:], reader)


def _elements(path: Path, text: str, reader: io.TextIOBase) -> Iterator[Any]:
    decoder, number, size, place = json.JSONDecoder(), 0, CHUNK, 0
    while True:
        place = GAP.match(text, place).end()  # type: ignore[union-attr]
        if text.startswith("]", place):
            return
        try:
            element, end = decoder.raw_decode(text, place)
            complete = end < len(text)  # a number at the end of what was read may go on
        except (ValueError, RecursionError):
            complete = False
        if complete:
            yield element
            number, size, place = number + 1, CHUNK, end
            continue
        more = reader.read(size)
        if not more:
            raise UserError(f"{path}: not valid JSON after row {number}; is the file whole?")
        text, place, size = text[place:] + more, 0, 2 * size  # doubling: a long row is not scanned again and again


def _list_inside(text: str) -> list[Any] | None:
    """The only list of objects in a JSON object such as {"data": [...]}; None where there is none."""
    parsed = _parsed(text)
    if not isinstance(parsed, dict) or {"messages", "conversations", "utterances"} & set(parsed):
        return None
    lists = [value for value in parsed.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
    return lists[0] if len(lists) == 1 else None


def parquet_rows(path: Path, packed: str | None) -> Iterator[Any]:
    import pyarrow
    import pyarrow.parquet

    try:
        source: Any = path
        if packed is not None:  # Parquet is read from its end, so a packed one is unpacked in memory
            with open_bytes(path, packed) as stream:
                source = pyarrow.BufferReader(stream.read())
        for batch in pyarrow.parquet.ParquetFile(source).iter_batches(batch_size=1000):
            yield from batch_rows(batch)
    except pyarrow.ArrowInvalid as error:
        raise UserError(
            f"{path}: not a readable Parquet file ({_short(error)}); it may be half-written, fetch it again"
        ) from error


def arrow_rows(path: Path, packed: str | None, file_format: bool) -> Iterator[Any]:
    import pyarrow

    try:
        with open_bytes(path, packed) if packed else pyarrow.memory_map(str(path)) as stream:
            if file_format:
                source = pyarrow.BufferReader(stream.read()) if packed else stream
                with pyarrow.ipc.open_file(source) as reader:
                    for index in range(reader.num_record_batches):
                        yield from batch_rows(reader.get_batch(index))
            else:
                for batch in pyarrow.ipc.open_stream(stream):
                    yield from batch_rows(batch)
    except pyarrow.ArrowInvalid as error:
        raise UserError(
            f"{path}: not a readable Arrow file ({_short(error)}); it may be half-written, fetch it again"
        ) from error


def batch_rows(batch: Any) -> Iterator[Any]:
    """Rows of an Arrow batch; text that is not UTF-8 is a bad row, as it is in the other formats."""
    for start in range(0, batch.num_rows, 1000):
        part = batch.slice(start, 1000)
        try:
            yield from part.to_pylist()
        except UnicodeDecodeError:
            for number in range(part.num_rows):
                try:
                    yield part.slice(number, 1).to_pylist()[0]
                except UnicodeDecodeError:
                    yield NotUtf8()


def _short(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error))[:120].rstrip(". ")
