"""Rows of JSON, JSON Lines and CSV files, one at a time."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from medsft.data.reading.row_fields import NotUtf8
from medsft.data.reading.source_file import SourceFile
from medsft.errors import UserError

CHUNK = 2**20  # characters read at once
# A field may be as long as memory allows; a text that is too long for a dialogue is rejected later, row by row.
csv.field_size_limit(2**31 - 1)
GAP = re.compile(r"[\s,]*")
DELIMITERS = ",\t;|"
SEPARATOR_LINE = re.compile(r"sep=(.)\s*\Z")  # the first line by which Excel is told the delimiter
QUOTED = re.compile(r'"[^"]*"')


def text_lines(file: SourceFile) -> Iterator[str]:
    """Lines with their ends, whatever these are, without a byte order mark."""
    with file.open() as stream:
        yield from file.text(stream, newline="")


def json_lines(lines: Iterable[str]) -> Iterator[object]:
    """One row a line; a blank line is no row. A line that is not JSON is returned as text."""
    for line in lines:
        if line.strip():
            yield parse_line(line)


def parse_line(line: str) -> object:
    try:
        line.encode()
    except UnicodeEncodeError:
        return NotUtf8(line)
    return parsed(line)


def parsed(text: str) -> object:
    """The value of a JSON text; the text itself where it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # ValueError: broken JSON, and integers of more than 4,300 digits
        return text


def delimiter_of(line: str) -> str | None:
    """The delimiter of a CSV file by its first line: the one that Excel's 'sep=;' names, or the commonest; None if
    there is none."""
    if named := SEPARATOR_LINE.match(line):
        return named[1]
    bare = QUOTED.sub("", line)
    delimiter = max(DELIMITERS, key=bare.count)
    return delimiter if delimiter in bare and "\x00" not in line else None


def csv_rows(file: SourceFile, delimiter: str) -> Iterator[object]:
    """Rows under the names of the header, stripped of blanks. Raises UserError for a name that comes twice."""
    lines = (line for line in text_lines(file))
    first = next(lines, "")
    while first and (not first.strip() or SEPARATOR_LINE.match(first)):
        first = next(lines, "")
    blanks = f"{delimiter} " in first  # 'a, "b, c"': the quote after a blank is a quote only if blanks are skipped
    reader = csv.DictReader(chain([first], lines), strict=True, delimiter=delimiter, skipinitialspace=blanks)
    try:
        names = [name.strip() for name in reader.fieldnames or ()]
        twice = [name for name, count in Counter(names).items() if count > 1 and name]
        if twice:
            raise UserError(f"{file.path}: two columns are named '{twice[0]}'; rename or delete one of them")
        reader.fieldnames = names
        yield from reader
    except csv.Error as error:
        line = reader.line_num + 1 if SEPARATOR_LINE.match(next(text_lines(file), "")) else reader.line_num
        raise UserError(f"{file.path}: line {line} is not valid CSV ({error}); check its quotes") from error


def one_value_a_line(head: list[str]) -> bool:
    """Whether a file whose first lines are `head`, and whose first character is '{' or '[', is JSON Lines."""
    first = parsed(head[0])
    if isinstance(first, list):  # a list of turns a line; a single line is a list of rows
        return len(head) > 1
    if isinstance(first, dict):
        return len(head) > 1 or list_inside(head[0]) is None
    if head[0].lstrip().startswith("["):
        return False
    # not the first line of an object that is spread over several
    return not head[0].rstrip().endswith(("{", "[", ",", ":"))


def json_rows(file: SourceFile) -> Iterator[object]:
    """Elements of a JSON list, decoded one by one as the file is read, or of the one list of rows in an object."""
    with file.open() as stream:
        reader = file.text(stream)
        text = reader.read(CHUNK).lstrip()
        if text.startswith("["):
            yield from list_elements(file.path, text[1:], reader)
            return
        rows = list_inside(text + reader.read())
        if rows is None:
            raise UserError(f"{file.path}: expected a JSON list of rows, or one object a line; found another object")
        yield from rows


def list_elements(path: Path, text: str, reader: io.TextIOBase) -> Iterator[object]:
    """Elements of a JSON list whose text, after its '[', is `text` and then what `reader` has left."""
    decoder, number, size, position = json.JSONDecoder(), 0, CHUNK, 0
    while True:
        position = GAP.match(text, position).end()  # type: ignore[union-attr]
        if text.startswith("]", position):
            rest = text[position + 1 :].strip() or reader.read(CHUNK).strip()
            if rest:
                raise UserError(f"{path}: more text after the list of {number} rows; put all rows into one list")
            return
        try:
            element, end = decoder.raw_decode(text, position)
            complete = end < len(text)  # a number at the end of the text read so far may go on
        except (ValueError, RecursionError):
            complete = False
        if complete:
            yield element
            number, size, position = number + 1, CHUNK, end
            continue
        more = reader.read(size)
        if not more:
            raise UserError(f"{path}: not valid JSON after row {number}; is the file whole?")
        # The size doubles, so that a long row is not scanned again for every chunk of it.
        text, position, size = text[position:] + more, 0, 2 * size


def list_inside(text: str) -> list[object] | None:
    """The only list of objects in a JSON object such as {"data": [...]}; None where there is none."""
    value = parsed(text)
    if not isinstance(value, dict) or {"messages", "conversations", "utterances", "prompt"} & set(value):
        return None
    lists = [part for part in value.values() if isinstance(part, list) and part and isinstance(part[0], dict)]
    return lists[0] if len(lists) == 1 else None
