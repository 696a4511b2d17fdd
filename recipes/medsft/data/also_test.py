"""Test sets from elsewhere: rows of another source, prepared like the others, never mixed with the study's own split.

Each file becomes also_test_NAME.parquet. Rows that are near-duplicates of a row of the study are left out and counted;
the study's own splits and their fingerprint are the same with and without such sets.
"""

import dataclasses
import random
import re
from collections import Counter
from pathlib import Path

from medsft.arguments import DataArguments
from medsft.data.data_report import Tables, ordered, tally, token_columns, token_counts
from medsft.data.groups.grouping import Row, drop_exact, group, remaining_rows
from medsft.data.reading.dialogue import Rejected
from medsft.data.reading.sources import Part, parts_of, schemas_of, stem
from medsft.data.split_files import ALSO_TEST
from medsft.errors import UserError
from medsft.records import Json


def named_files(args: DataArguments) -> dict[str, DataArguments]:
    """{name: the options that read its file alone} of every file in `also_test`. Raises UserError for equal names."""
    found: dict[str, DataArguments] = {}
    for file in args.also_test:
        name = re.sub(r"\W+", "_", stem(Path(file)), flags=re.ASCII).strip("_") or "set"
        if name in found:
            raise UserError(f"also_test: two files are called '{name}'; rename one, its name is that of its test set")
        found[name] = dataclasses.replace(
            args, data=[file], weights=[], max_rows=None, official_split=False, also_test=[], split="groups"
        )
    return found


def sources_of(files: dict[str, DataArguments]) -> dict[str, list[list[Part]]]:
    """The parts of every file. Raises UserError for what does not exist."""
    return {name: parts_of(args) for name, args in files.items()}


def readable(args: DataArguments, parts: list[list[Part]]) -> DataArguments:
    """The options by which a further file is read: with the study's own column names, or, where the file has others
    that are known, without. Raises UserError where neither reads it."""
    try:
        schemas_of(args, parts)
    except UserError:
        if not args.columns:
            raise
        args = dataclasses.replace(args, columns=None)
        schemas_of(args, parts)
    return args


def choose(own: Tables, kept: list[Row], also: Tables, threshold: float, seed: int) -> tuple[list[Row], int, int]:
    """The rows of a further test set, shuffled; how many were near the study's `kept` rows, and how many exact copies.

    `own` are the study's tables. Groups are those of the further set alone.
    """
    from datasets import concatenate_datasets

    rows = remaining_rows(also.read, also.keys)
    unique = drop_exact([row._replace(official="") for row in rows])
    shift = len(own.read)
    both = concatenate_datasets([own.keys, also.keys])
    moved = [row._replace(position=row.position + shift) for row in unique]
    joined, _ = group([*kept, *moved], both, threshold)
    seen = {row.group for row in joined if row.position < shift}
    near = {row.position - shift for row in joined if row.position >= shift and row.group in seen}
    left = [row for row in unique if row.position not in near]
    apart = group(left, also.keys, threshold)[0] if left else []
    fits = also.fitted.data.table["prompt_tokens"].to_numpy() > 0
    chosen = sorted((row for row in apart if fits[row.position]), key=lambda row: row.digest)
    random.Random(f"{seed} {ALSO_TEST}").shuffle(chosen)
    return chosen, len(near), len(rows) - len(unique)


def count(also: Tables, rejected: list[Rejected], chosen: list[Row], near: int, copies: int, digest: str) -> Json:
    """What became of the rows of a further test set: its part of data_report.json."""
    dropped = Counter(row.reason for row in rejected)
    dropped += tally(also.cleaned.data.table["dropped"]) + tally(also.redacted.data.table["dropped"])
    dropped += Counter({"near_own_split": near, "exact_duplicate": copies})
    read = len(also.read) + len(rejected)
    dropped += Counter({"over_budget": read - dropped.total() - len(chosen)})
    return {
        "rows_read": read,
        "rows": len(chosen),
        "groups": len({row.group for row in chosen}),
        "dropped": ordered(dropped),
        "tokens": token_counts(*token_columns(also.fitted, chosen)),
        "fingerprint": digest,
    }
