"""The Parquet files of the prepared splits: written by the data stage, loaded by all later ones."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from medsft.data.groups.grouping import Row
from medsft.data.reading.statements import hidden
from medsft.errors import UserError
from medsft.files import read_json, sha256_file

if TYPE_CHECKING:
    from datasets import Dataset

BATCH = 1000  # rows
ALSO_TEST = "also_test_"  # before the name of a further test set


def split_of_test(test: str) -> str:
    """The name of the split of a test set as generate.py and score.py name it: the study's own, or a further one."""
    return test if test == "test" else f"{ALSO_TEST}{test}"


def write_splits(
    folder: Path,
    parts: dict[str, list[Row]],
    read: "Dataset",
    fitted: "Dataset",
    template_sha256: str,
    hide: Callable[[str], str],
) -> str:
    """Write NAME.parquet for each of the `parts`. Returns the fingerprint of their rows and of the chat template.

    `read` and `fitted` are the tables of dialogues and of messages; a Row's `position` is its row in both. Where a row
    has statements there is a column of them, de-identified by `hide`.
    """
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    message = pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())])
    texts = [(name, pyarrow.string()) for name in ("id", "source", "group")]
    counts = [(name, pyarrow.int32()) for name in ("prompt_tokens", "answer_tokens")]
    said = has_statements(read)
    statement = pyarrow.struct(
        [("text", pyarrow.string()), ("must_have", pyarrow.bool_()), ("points", pyarrow.float64())]
    )
    schema = pyarrow.schema([*texts, ("messages", pyarrow.list_(message)), *counts])
    content = hashlib.sha256(template_sha256.encode())
    messages, ids = fitted.select_columns(schema.names[3:]), read.select_columns("id")
    if said:
        schema = schema.append(pyarrow.field("statements", pyarrow.list_(statement)))
    for name, rows in parts.items():
        with ParquetWriter(folder / f"{name}.parquet", schema) as writer:
            for start in range(0, len(rows), BATCH):
                batch = rows[start : start + BATCH]
                positions = [row.position for row in batch]
                columns = messages[positions] | ids[positions]
                columns |= {"source": [row.source for row in batch], "group": [row.group for row in batch]}
                if said:
                    given = [json.loads(text or "[]") for text in read[positions]["statements"]]
                    columns["statements"] = [hidden(found, hide) for found in given]
                content.update(json.dumps([name, columns], sort_keys=True).encode())
                writer.write_table(pyarrow.table(columns, schema=schema))
    return content.hexdigest()[:16]


def has_statements(read: "Dataset") -> bool:
    """Whether any row of a table of dialogues has statements."""
    from pyarrow import compute

    return bool(compute.max(compute.binary_length(read.data.table["statements"])).as_py())


def load_split(study_dir: str, name: str) -> "Dataset":
    """A split ('train', 'dev', 'test' or a further test set) as a datasets.Dataset in memory.

    Columns: id, source, group, messages (list of Turn), prompt_tokens, answer_tokens, and statements where the source
    has them. Raises UserError where the split
    is not prepared, or damaged since it was written.
    """
    path = Path(study_dir) / "data" / f"{name}.parquet"
    further = [file.stem.removeprefix(ALSO_TEST) for file in sorted(path.parent.glob(f"{ALSO_TEST}*.parquet"))]
    if name.startswith(ALSO_TEST) and not path.is_file():
        known = ", ".join(["test", *further])
        raise UserError(f"test '{name.removeprefix(ALSO_TEST)}': not prepared; there are {known} (prepare_data.py)")
    if not path.is_file():
        raise UserError(f"{path}: no such file; run: python recipes/prepare_data.py --study_dir {study_dir}")

    import pyarrow
    from datasets import Dataset
    from pyarrow.parquet import read_table

    card = path.parent / "croissant.json"  # it holds the SHA-256 of each file as it was written
    sums = {file["@id"]: file["sha256"] for file in read_json(card)["distribution"]} if card.is_file() else {}
    if sums.get(path.name, found := sha256_file(path)) != found:
        raise UserError(f"{path}: damaged since it was written; delete {path.parent} and run prepare_data.py")
    try:
        return Dataset(read_table(path))  # Dataset.from_parquet would leave a copy in a cache that can grow stale
    except (pyarrow.ArrowException, OSError) as error:  # Arrow raises OSError for a corrupt block
        raise UserError(f"{path}: not a readable Parquet file; delete {path.parent} and run prepare_data.py") from error
