"""The Parquet files of the prepared splits: written by the data stage, loaded by all later ones."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from medsft.data.groups.grouping import Row
from medsft.errors import UserError
from medsft.files import read_json, sha256_file

if TYPE_CHECKING:
    from datasets import Dataset

BATCH = 1000  # rows


def write_splits(
    folder: Path, parts: dict[str, list[Row]], read: "Dataset", fitted: "Dataset", template_sha256: str
) -> str:
    """Write NAME.parquet for each of the `parts`. Returns the fingerprint of their rows and of the chat template.

    `read` and `fitted` are the tables of dialogues and of messages; a Row's `position` is its row in both.
    """
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    message = pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())])
    texts = [(name, pyarrow.string()) for name in ("id", "source", "group")]
    counts = [(name, pyarrow.int32()) for name in ("prompt_tokens", "answer_tokens")]
    schema = pyarrow.schema([*texts, ("messages", pyarrow.list_(message)), *counts])
    content = hashlib.sha256(template_sha256.encode())
    messages, ids = fitted.select_columns(schema.names[3:]), read.select_columns("id")
    for name, rows in parts.items():
        with ParquetWriter(folder / f"{name}.parquet", schema) as writer:
            for start in range(0, len(rows), BATCH):
                batch = rows[start : start + BATCH]
                positions = [row.position for row in batch]
                columns = messages[positions] | ids[positions]
                columns |= {"source": [row.source for row in batch], "group": [row.group for row in batch]}
                content.update(json.dumps([name, columns], sort_keys=True).encode())
                writer.write_table(pyarrow.table(columns, schema=schema))
    return content.hexdigest()[:16]


def load_split(study_dir: str, name: str) -> "Dataset":
    """A split ('train', 'dev' or 'test') as a datasets.Dataset in memory.

    Columns: id, source, group, messages (list of Turn), prompt_tokens, answer_tokens. Raises UserError where the split
    is not prepared, or damaged since it was written.
    """
    path = Path(study_dir) / "data" / f"{name}.parquet"
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
