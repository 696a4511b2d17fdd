"""Rows of Parquet files, Arrow files and Arrow streams."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from medsft.data.reading.row_fields import NotUtf8
from medsft.data.reading.source_file import SourceFile, shortened
from medsft.errors import UserError

if TYPE_CHECKING:
    from pyarrow import RecordBatch

PARQUET, ARROW_FILE, ARROW_STREAM = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"


def parquet_rows(file: SourceFile) -> Iterator[object]:
    import pyarrow
    import pyarrow.parquet

    try:
        source: object = file.path
        if file.packed is not None:  # Parquet is read from its end, so a packed one is unpacked in memory
            with file.open() as stream:
                source = pyarrow.BufferReader(stream.read())
        for batch in pyarrow.parquet.ParquetFile(source).iter_batches(batch_size=1000):
            yield from batch_rows(batch)
    except pyarrow.ArrowInvalid as error:
        raise unreadable(file, "a readable Parquet file", error) from error


def arrow_rows(file: SourceFile, streamed: bool) -> Iterator[object]:
    """Rows of Arrow's streaming format, or else of its file format, which is memory-mapped."""
    import pyarrow

    try:
        with file.open() if file.packed else pyarrow.memory_map(str(file.path)) as stream:
            if streamed:
                for batch in pyarrow.ipc.open_stream(stream):
                    yield from batch_rows(batch)
                return
            source = pyarrow.BufferReader(stream.read()) if file.packed else stream
            with pyarrow.ipc.open_file(source) as reader:
                for index in range(reader.num_record_batches):
                    yield from batch_rows(reader.get_batch(index))
    except pyarrow.ArrowInvalid as error:
        raise unreadable(file, "a readable Arrow file", error) from error


def batch_rows(batch: "RecordBatch") -> Iterator[object]:
    """Rows of an Arrow batch. A row with text that is not UTF-8 is a bad row, as in the other formats."""
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


def unreadable(file: SourceFile, wanted: str, error: Exception) -> UserError:
    return UserError(f"{file.path}: not {wanted} ({shortened(error)}); it may be half-written, fetch it again")
