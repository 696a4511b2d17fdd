"""Rows of Parquet files, Arrow files and Arrow streams."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from medsft.data.reading.row_fields import NotUtf8
from medsft.data.reading.source_file import SourceFile, shortened
from medsft.errors import UserError

if TYPE_CHECKING:
    from pyarrow import RecordBatch, Schema

PARQUET, ARROW_FILE, ARROW_STREAM = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"


def parquet_rows(file: SourceFile) -> Iterator[object]:
    import pyarrow
    import pyarrow.parquet

    try:
        source: object = file.path
        if file.packed is not None:  # Parquet is read from its end, so a packed one is unpacked in memory
            with file.open() as stream:
                source = pyarrow.BufferReader(stream.read())
        parquet = pyarrow.parquet.ParquetFile(source)
        check_names(file, parquet.schema_arrow)
        for batch in parquet.iter_batches(batch_size=1000):
            yield from batch_rows(batch)
    except pyarrow.ArrowException as error:
        raise unreadable(file, "a readable Parquet file", error) from error


def arrow_rows(file: SourceFile, streamed: bool) -> Iterator[object]:
    """Rows of Arrow's streaming format, or else of its file format, which is memory-mapped."""
    import pyarrow

    try:
        with file.open() if file.packed else pyarrow.memory_map(str(file.path)) as stream:
            if streamed:
                reader = pyarrow.ipc.open_stream(stream)
                check_names(file, reader.schema)
                for batch in reader:
                    yield from batch_rows(batch)
                return
            source = pyarrow.BufferReader(stream.read()) if file.packed else stream
            with pyarrow.ipc.open_file(source) as reader:
                check_names(file, reader.schema)
                for index in range(reader.num_record_batches):
                    yield from batch_rows(reader.get_batch(index))
    except pyarrow.ArrowException as error:
        raise unreadable(file, "a readable Arrow file", error) from error


def check_names(file: SourceFile, schema: "Schema") -> None:
    """Raise UserError for a column name that comes twice: a row would hold only the last of them."""
    twice = [name for name in schema.names if schema.names.count(name) > 1]
    if twice:
        raise UserError(f"{file.path}: two columns are named '{twice[0]}'; rename or delete one of them")


def batch_rows(batch: "RecordBatch") -> Iterator[object]:
    """Rows of an Arrow batch. A row with text that is not UTF-8 is a bad row, as in the other formats."""
    for start in range(0, batch.num_rows, 1000):
        part = batch.slice(start, 1000)
        try:
            rows = part.to_pylist()
        except Exception:  # text that is not UTF-8, a date beyond year 9999, nanoseconds without pandas, ...
            rows = [one_row(part.slice(number, 1)) for number in range(part.num_rows)]
        yield from rows


def one_row(batch: "RecordBatch") -> object:
    """The row of a batch of one; None for a value that Python has no type for, which is no text."""
    row = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            row[name] = column[0].as_py()
        except UnicodeDecodeError:
            return NotUtf8()
        except Exception:  # as above; the libraries raise ValueError, OverflowError, ArrowException and more
            row[name] = None
    return row


def unreadable(file: SourceFile, wanted: str, error: Exception) -> UserError:
    return UserError(f"{file.path}: not {wanted} ({shortened(error)}); it may be half-written, fetch it again")
