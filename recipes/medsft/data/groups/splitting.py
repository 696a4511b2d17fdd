"""Duplicates, groups and the split: whatever belongs together lands on one side."""

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

from medsft.data.groups.near_duplicates import SHORT, Groups, join_near_duplicates, opening, sketch
from medsft.data.reading.row_schemas import Turn
from medsft.errors import UserError

SPLITS = ("train", "dev", "test")
STUDY_ROWS, STUDY_SHARE = 12_000, 0.15  # the study's first rows, and the share of them that it held out


class Row(NamedTuple):
    """What the split needs to know of a dialogue. `place` is its row in the prepared table."""

    place: int
    digest: str  # of the transcript
    source: str
    official: str = ""
    group: str = ""


def digest(turns: Iterable[Turn]) -> str:
    """SHA-256 of a transcript, blind to case and to spaces."""
    text = "\x1e".join(f"{role}\x1f{' '.join(words.lower().split())}" for role, words in turns)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def keys(turns: list[Turn], opened_by: str) -> dict[str, Any]:
    """What tells that a row belongs with another, ready to be compared with that of all others."""
    whole = [("assistant", opened_by), *turns]
    question = turns[0][1]
    asks = len(turns) == 2 and question.endswith("?") and len(question.split()) >= 4
    text = opening(turns)
    return {
        "digest": digest(turns),
        # rows that share their earlier turns, and a row with the one whose whole transcript is its earlier turns
        "conversation": [digest(part) for part in (whole, whole[:-2]) if len(part) > 1 and says_something(part)],
        # several answers to one question of four words or more; the opening alone would part the short ones
        "question": digest(turns[:1]) if asks else "",
        "opening": text,
        "sketch": sketch(text),
    }


def says_something(turns: list[Turn]) -> bool:
    """False for 'Hello' - 'How can I help?', which unrelated conversations share."""
    patient = sum(len(words.split()) for role, words in turns if role == "user")
    return patient >= 3 or sum(len(words.split()) for _, words in turns) >= SHORT + 2


def drop_exact(rows: list[Row]) -> list[Row]:
    """The first of every set of rows with the same transcript; one of an official split goes before all others."""
    first: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: ("test", "dev", "").index(row.official)):
        first.setdefault(row.digest, row)
    return sorted(first.values())


def group(rows: list[Row], table: Any, threshold: float) -> tuple[list[Row], Counter[str]]:
    """The rows with the names of their groups, and per source how many were near-duplicates of another's question.

    `table` is the dataset of `keys`. The name is taken from the texts, so it does not depend on the order of the rows.
    """
    groups = Groups(len(rows))
    places = [row.place for row in rows]
    columns = table.data.table

    def equal_values(values: Iterable[tuple[int, str]]) -> None:
        seen: dict[str, int] = {}
        for number, value in values:
            groups.join(number, seen.setdefault(value, number))

    conversations = columns["conversation"]
    equal_values((n, value.as_py()) for n, place in enumerate(places) for value in conversations[place].values)
    separate = {groups.find(number) for number in range(len(rows))}
    equal_values((n, value) for n, place in enumerate(places) if (value := columns["question"][place].as_py()))
    unlike, sketches = distinct_openings(groups, places, columns)
    join_near_duplicates(groups, unlike, sketches, lambda n: columns["opening"][places[n]].as_py(), threshold)

    near = Counter(rows[number].source for number in separate if groups.find(number) != number)
    names: dict[int, str] = {}
    for number, row in enumerate(rows):
        root = groups.find(number)
        names[root] = min(row.digest, names.get(root, row.digest))
    return [row._replace(group=names[groups.find(number)][:12]) for number, row in enumerate(rows)], near


def distinct_openings(groups: Groups, places: list[int], columns: Any) -> tuple[Any, Any]:
    """Join rows with equal openings; numbers and sketches (uint32, (n, permutations)) of the first row of each."""
    import numpy

    seen: dict[bytes, int] = {}
    for number, place in enumerate(places):
        text = columns["opening"][place].as_py().encode("utf-8", "replace")
        first = seen.setdefault(hashlib.blake2b(text, digest_size=16).digest(), number)
        groups.join(number, first)
    unlike = numpy.fromiter(seen.values(), dtype=numpy.int64, count=len(seen))
    packed = b"".join(columns["sketch"][places[number]].as_py() for number in unlike)
    return unlike, numpy.frombuffer(packed, dtype=numpy.uint32).reshape(len(unlike), -1)


def split(rows: list[Row], dev_fraction: float, test_fraction: float, seed: int) -> dict[str, list[Row]]:
    """Whole groups to train, dev and test, the fractions being of the groups of each source; rows in an order drawn
    by `seed`. An official test (or dev) split stays what it is, and what shares a group with it is left out.

    The same texts and seed give the same split whatever the order of the rows. Raises UserError where a side would stay
    empty.
    """
    members: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.digest):
        members[row.group].append(row)
    held: dict[str, list[Row]] = {name: [row for row in rows if row.official == name] for name in ("test", "dev")}
    taken = {row.group: row.official for name in ("dev", "test") for row in held[name]}  # test outranks dev
    free = {name: part for name, part in members.items() if name not in taken}
    names = draw(free, 0 if held["dev"] else dev_fraction, 0 if held["test"] else test_fraction, seed)
    for side, own in held.items():
        names[side] += [name for name in sorted(members) if own and taken.get(name) == side]
    if not all(names.values()):
        raise UserError(
            f"{len(rows)} usable rows in {len(members)} independent groups are too few for train, dev and test; "
            "give at least 3 dialogues that are not copies of each other"
        )
    result = {}
    for side in SPLITS:
        part = [row for name in names[side] for row in members[name] if row.official == taken.get(name, "")]
        random.Random(f"{seed} {side}").shuffle(part)
        result[side] = part
    return result


def draw(members: dict[str, list[Row]], dev: float, test: float, seed: int) -> dict[str, list[str]]:
    """Names of groups for each side, drawn source by source; a group of several sources counts with its commonest."""
    strata: dict[str, list[str]] = defaultdict(list)
    for name in sorted(members):
        counts = Counter(row.source for row in members[name])
        strata[min(counts, key=lambda source: (-counts[source], source))].append(name)
    sides: dict[str, list[str]] = {side: [] for side in SPLITS}
    for source in sorted(strata, key=lambda source: (-len(strata[source]), source)):
        names = strata[source]
        random.Random(seed).shuffle(names)
        cuts = [round(share * len(names)) for share in (test, dev)]
        if not sides["train"]:  # the largest source makes sure that no side stays empty
            cuts = [max(cut, 1) if share > 0 else 0 for cut, share in zip(cuts, (test, dev), strict=True)]
            while sum(cuts) >= len(names) and max(cuts) > 1:  # 4 groups at 0.375 each would be 2 and 2
                cuts[cuts.index(max(cuts))] -= 1
        sides["test"] += names[: cuts[0]]
        sides["dev"] += names[cuts[0] : sum(cuts)]
        sides["train"] += names[sum(cuts) :]
    return sides


def study_split(rows: list[Row], test_fraction: float, seed: int) -> dict[str, list[Row]]:
    """The source study's split: the first 12,000 rows unshuffled, 15 % of them held out by datasets.train_test_split.

    Groups are not respected; that is what the study did. It had no test set: ours are the rows that follow,
    `test_fraction` as many, and where the source ends before, the held-out 15 % once more.
    """
    from datasets import Dataset

    rows = sorted(rows)
    first, rest = rows[:STUDY_ROWS], rows[STUDY_ROWS:]
    if len(first) < 2:
        raise UserError(f"{len(first)} usable rows are too few for the study's split")
    parts = Dataset.from_dict({"number": range(len(first))}).train_test_split(test_size=STUDY_SHARE, seed=seed)
    train, dev = ([first[number] for number in parts[name]["number"]] for name in ("train", "test"))
    return {"train": train, "dev": dev, "test": rest[: round(test_fraction * len(first))] or dev}
