"""The split into train, dev and test: whole groups, an official split as it is, or the source study's."""

import random
from collections import Counter, defaultdict

from medsft.data.groups.grouping import Row
from medsft.errors import UserError

SPLITS = ("train", "dev", "test")
STUDY_ROWS, STUDY_SHARE = 12_000, 0.15  # the study's first rows, and the share of them that it held out


def split(rows: list[Row], dev_fraction: float, test_fraction: float, seed: int) -> dict[str, list[Row]]:
    """{split: rows}: whole groups, drawn by `seed`; the fractions are of the groups of each source.

    An official test or dev split is kept as it is, and the other rows of its groups are left out. The rows of a split
    are shuffled. The same texts and seed give the same split, whatever the order of the rows. Raises UserError where a
    split would be empty.
    """
    members: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.digest):
        members[row.group].append(row)
    held: dict[str, list[Row]] = {name: [row for row in rows if row.official == name] for name in ("test", "dev")}
    taken = {
        row.group: row.official for name in ("dev", "test") for row in held[name]
    }  # a group in both counts as test
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
    """{split: names of groups}, drawn source by source; a group of several sources counts to its commonest."""
    strata: dict[str, list[str]] = defaultdict(list)
    for name in sorted(members):
        counts = Counter(row.source for row in members[name])
        strata[min(counts, key=lambda source: (-counts[source], source))].append(name)
    sides: dict[str, list[str]] = {side: [] for side in SPLITS}
    for source in sorted(strata, key=lambda source: (-len(strata[source]), source)):
        names = strata[source]
        random.Random(seed).shuffle(names)
        cuts = [round(share * len(names)) for share in (test, dev)]
        if not sides["train"]:  # the largest source leaves no split empty
            cuts = [max(cut, 1) if share > 0 else 0 for cut, share in zip(cuts, (test, dev), strict=True)]
            while sum(cuts) >= len(names) and max(cuts) > 1:  # 4 groups at 0.375 each would be 2 and 2
                cuts[cuts.index(max(cuts))] -= 1
        sides["test"] += names[: cuts[0]]
        sides["dev"] += names[cuts[0] : sum(cuts)]
        sides["train"] += names[sum(cuts) :]
    return sides


def study_split(rows: list[Row], test_fraction: float, seed: int) -> dict[str, list[Row]]:
    """The source study's split: the first 12,000 rows unshuffled, 15 % of them held out by datasets.train_test_split.

    The study did not keep groups together, and it had no test set. The test rows here are the `test_fraction` * 12,000
    rows that follow, or the dev rows once more where there are none. Raises UserError for fewer than two rows.
    """
    from datasets import Dataset

    rows = sorted(rows)
    first, rest = rows[:STUDY_ROWS], rows[STUDY_ROWS:]
    if len(first) < 2:
        raise UserError(f"{len(first)} usable rows are too few for the study's split")
    parts = Dataset.from_dict({"number": range(len(first))}).train_test_split(test_size=STUDY_SHARE, seed=seed)
    train, dev = ([first[number] for number in parts[name]["number"]] for name in ("train", "test"))
    return {"train": train, "dev": dev, "test": rest[: round(test_fraction * len(first))] or dev}
