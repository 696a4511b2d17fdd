"""Atomic writes (temporary file, fsync, rename), JSON, and fingerprints."""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from medsft.errors import UserError
from medsft.records import Json

T = TypeVar("T", bound=Mapping[str, Any])


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically: a crash at any moment leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _fsync_folder(path.parent)


def write_json(path: Path, value: object) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_json(path: Path) -> Any:
    """Raises UserError that names the file and the line when it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; run the stage that writes it first (make help)") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); delete it and run its stage again") from error


def read_labelled(path: Path, fields: str, example: str, check: Callable[[Json, str], T]) -> list[T]:
    """Rows that a person wrote, each as `check(row, where)` returns it, with an `id` of its own; no blank lines.

    `fields` and `example` say in errors what a row has. Raises UserError naming file, row and remedy.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; give a JSON Lines file with {fields} in each row")
    rows: dict[str, T] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path}: row {number}"
        try:
            row = json.loads(line.decode("utf-8"))
        except ValueError as error:
            raise UserError(f"{where} is not JSON in UTF-8; write one JSON object a line") from error
        if not isinstance(row, dict):
            raise UserError(f"{where} is not an object; write {example}")
        checked = check(row, where)
        if checked["id"] in rows:
            raise UserError(f"{where}: field 'id' repeats '{checked['id']}'; give each row an id of its own")
        rows[checked["id"]] = checked
    if not rows:
        raise UserError(f"{path}: no rows; write one JSON object a line with {fields}")
    return [*rows.values()]


def read_jsonl(path: Path) -> list[Json]:
    """Rows of a JSON Lines file that this project wrote. Raises UserError naming file and line."""
    rows = []
    with path.open("rb") as handle:
        for number, line in enumerate(handle, 1):
            try:
                rows.append(json.loads(line))
            except ValueError as error:  # not JSON, or not UTF-8
                raise UserError(f"{path}: line {number} is not JSON; delete the line or the file, run again") from error
    return rows


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`, renamed to it when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                fsync(file)
        if path.exists():
            old = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.old")
            path.replace(old)
            temporary.replace(path)
            shutil.rmtree(old)
        else:
            temporary.replace(path)
        _fsync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sha256_file(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def fingerprint(*parts: object) -> str:
    """16 hexadecimal digits of the SHA-256 of the parts as canonical JSON: same inputs, same fingerprint."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def fsync(path: Path) -> None:
    """Wait until a file's content is on the disk."""
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def _fsync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
