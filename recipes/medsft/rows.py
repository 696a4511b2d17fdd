"""Raw rows of a .jsonl, .json, .csv or .parquet file or of a hub dataset, in order, one at a time."""

import csv
import json
import random
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from medsft.cli import UserError
from medsft.hardware import hub_reachable

SAMPLE = Path(__file__).resolve().parent.parent / "sample" / "dialogues.jsonl"
SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
REQUIRED = ("patient_message", "doctor_response")
COLUMNS = (*REQUIRED, "dialogue_context")
LOCAL = "give a local .jsonl, .json, .csv or .parquet file with --data, or --data sample"


def local_file(data: str) -> Path | None:
    """The file that `data` names, or None where it must be a dataset on the hub.

    Raises UserError where `data` is a path that does not exist or a kind of file that cannot be read.
    """
    path = SAMPLE if data == "sample" else Path(data).expanduser()
    if path.is_file() and path.suffix in SUFFIXES:
        return path
    if path.exists():
        raise UserError(f"{path}: not a dialogue file; give a file ending in {', '.join(SUFFIXES)}")
    if path.suffix in SUFFIXES or data.startswith((".", "/", "~")) or data.count("/") > 1:
        raise UserError(f"{path}: no such file; give an existing {', '.join(SUFFIXES)} file, or 'sample'")
    return None


def file_rows(path: Path) -> Iterator[Any]:
    """Raw rows of a file in order: a dict each, or whatever else stands there."""
    if path.suffix == ".parquet":
        return parquet_rows(path)
    if path.suffix == ".jsonl":
        return (parse_line(line) for line in utf8_lines(path) if line.strip())  # a blank line is no row
    return csv_rows(path) if path.suffix == ".csv" else json_rows(path)


def parse_line(line: str) -> Any:
    try:
        return json.loads(line)
    except (json.JSONDecodeError, RecursionError):
        return line


def utf8_lines(path: Path) -> Iterator[str]:
    """Lines of a UTF-8 file, with or without a byte order mark. Raises UserError naming the byte that is not UTF-8."""
    offset = 0
    with path.open("rb") as handle:
        for number, raw in enumerate(handle, 1):
            try:
                yield raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                place = f"byte {offset + error.start}, line {number}"
                raise UserError(f"{path}: not UTF-8 at {place}; save the file as UTF-8 (e.g. with iconv)") from error
            offset += len(raw)


def csv_rows(path: Path) -> Iterator[Any]:
    csv.field_size_limit(2**24)
    reader = csv.DictReader(utf8_lines(path), strict=True)
    try:
        yield from reader
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num} is not valid CSV ({error}); check its quotes") from error


def json_rows(path: Path) -> Iterator[Any]:
    try:
        rows = json.loads("".join(utf8_lines(path)) or "[]")
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); one object a line needs the name .jsonl") from error
    if not isinstance(rows, list):
        raise UserError(f"{path}: expected a JSON list of rows, found {type(rows).__name__}")
    yield from rows


def parquet_rows(path: Path) -> Iterator[Any]:
    import pyarrow
    import pyarrow.parquet

    try:
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=1000):
            yield from batch.to_pylist()
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise UserError(f"{path}: not a readable Parquet file ({str(error).splitlines()[0]})") from error


def hub_rows(name: str, split: str) -> Iterator[Any]:
    import datasets

    try:
        yield from datasets.load_dataset(name, split=split)
    except Exception as error:  # offline, gated, misspelt: the libraries below raise some twenty kinds of errors
        raise UserError(
            f"{name}: cannot load split '{split}' from the hub ({type(error).__name__}); {LOCAL}"
        ) from error


def check_hub(name: str) -> None:
    """Raise UserError within seconds where the hub cannot be reached; loading would try for half a minute.

    With HF_HUB_OFFLINE=1 the copy in the local cache is used, so nothing is checked.
    """
    from huggingface_hub.constants import HF_HUB_OFFLINE

    if not HF_HUB_OFFLINE and not hub_reachable():
        raise UserError(f"{name}: no such file, and the hub cannot be reached; {LOCAL}")


def check_columns(name: str, numbered: Iterator[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    """Pass the rows through. Raises UserError if there are none, or if no early row has the required columns."""
    first = list(islice(numbered, 100))
    if not first:
        raise UserError(f"{name}: the file is empty; it needs rows with the columns {', '.join(REQUIRED)}")
    found = {key: None for _, row in first if isinstance(row, dict) for key in row if key is not None}
    if found and not set(REQUIRED) <= set(found):
        raise UserError(f"{name}: found the columns {', '.join(map(str, found))}; understood are {', '.join(COLUMNS)}")
    return chain(first, numbered)


def sample_rows(numbered: Iterable[tuple[int, Any]], size: int, seed: int) -> list[tuple[int, Any]]:
    """`size` rows drawn uniformly in one pass (reservoir sampling, Vitter 1985, algorithm R), in file order."""
    generator = random.Random(seed)
    kept: list[tuple[int, Any]] = []
    for seen, row in enumerate(numbered, 1):
        if len(kept) < size:
            kept.append(row)
        elif (place := generator.randrange(seen)) < size:
            kept[place] = row
    return sorted(kept, key=lambda pair: pair[0])
