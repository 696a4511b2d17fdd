"""Groups of dialogues that must not be split: one conversation, one question, or nearly the same opening words."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from medsft.data.groups.near_duplicates import Groups, join_near_duplicates

if TYPE_CHECKING:
    import numpy
    from datasets import Dataset
    from numpy.typing import NDArray
    from pyarrow import Table


class Row(NamedTuple):
    """What the split needs to know of a dialogue. `position` is its row number in the prepared table, from 0."""

    position: int
    digest: str  # of the transcript
    source: str
    official: str = ""
    group: str = ""


def remaining_rows(read: "Dataset", keys: "Dataset") -> list[Row]:
    """The rows that cleaning left, from the tables of dialogues and of their keys; a dropped row has no digest."""
    columns = (keys["digest"], read["source"], read["official"])
    return [Row(position, *values) for position, values in enumerate(zip(*columns, strict=True)) if values[0]]


def drop_exact(rows: list[Row]) -> list[Row]:
    """The first row of each transcript. A row of an official split is kept before one of none, test before dev."""
    first: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: ("test", "dev", "").index(row.official)):
        first.setdefault(row.digest, row)
    return sorted(first.values())


def group(rows: list[Row], keys: "Dataset", threshold: float) -> tuple[list[Row], Counter[str]]:
    """The rows with the names of their groups, and {source: number of near-duplicates}.

    `keys` is the table of GroupKeys, `threshold` the Jaccard similarity of near-duplicates. A name is derived from the
    texts of its group, so it does not depend on the order of the rows.
    """
    groups = Groups(len(rows))
    positions = [row.position for row in rows]
    columns = keys.data.table

    def equal_values(values: Iterable[tuple[int, str]]) -> None:
        seen: dict[str, int] = {}
        for number, value in values:
            groups.join(number, seen.setdefault(value, number))

    answers, telling = columns["answers"], columns["telling"].to_pylist()

    every = [answers[position].as_py() for position in positions]
    only = one_continuation(every)
    equal_values(
        (n, value)
        for n, position in enumerate(positions)
        for number, value in enumerate(every[n])
        if number >= telling[position] or value in only  # what says little, where all rows go on after it alike
    )
    separate = {groups.find(number) for number in range(len(rows))}
    equal_values((n, value) for n, position in enumerate(positions) if (value := columns["question"][position].as_py()))
    unlike, sketches = distinct_openings(groups, positions, columns)
    join_near_duplicates(groups, unlike, sketches, lambda n: columns["opening"][positions[n]].as_py(), threshold)

    near = Counter(rows[number].source for number in separate if groups.find(number) != number)
    names: dict[int, str] = {}
    for number, row in enumerate(rows):
        root = groups.find(number)
        names[root] = min(row.digest, names.get(root, row.digest))
    return [row._replace(group=names[groups.find(number)][:12]) for number, row in enumerate(rows)], near


def one_continuation(rows: Iterable[list[str]]) -> set[str]:
    """Keys of exchanges that every row which goes on after them continues with the same next exchange."""
    following: dict[str, set[str]] = {}
    for keys in rows:
        for key, after in zip(keys, keys[1:], strict=False):
            following.setdefault(key, set()).add(after)
    return {key for key, after in following.items() if len(after) == 1}


def distinct_openings(
    groups: Groups, positions: list[int], columns: "Table"
) -> "tuple[NDArray[numpy.int64], NDArray[numpy.uint32]]":
    """Join rows with equal openings. Numbers (n,) and sketches (n, permutations) of the first row of each opening."""
    import numpy

    seen: dict[bytes, int] = {}
    for number, position in enumerate(positions):
        text = columns["opening"][position].as_py().encode("utf-8", "replace")
        first = seen.setdefault(hashlib.blake2b(text, digest_size=16).digest(), number)
        groups.join(number, first)
    unlike = numpy.fromiter(seen.values(), dtype=numpy.int64, count=len(seen))
    packed = b"".join(columns["sketch"][positions[number]].as_py() for number in unlike)
    return unlike, numpy.frombuffer(packed, dtype=numpy.uint32).reshape(len(unlike), -1)
