"""The split: whole groups, official splits, the source study's."""

import numpy
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from corpus import turns
from medsft.data.data_report import sizes
from medsft.data.groups.group_keys import digest
from medsft.data.groups.grouping import Row
from medsft.data.groups.splitting import split, study_split
from medsft.errors import UserError


def made(count: int, groups: int = 0, source: str = "a") -> list[Row]:
    """Rows that differ, in `groups` groups; each its own if 0."""
    return [
        Row(n, digest(turns(f"{source}{n}")), source, "", f"{source}{n % groups if groups else n}")
        for n in range(count)
    ]


@settings(max_examples=15, deadline=None)
@given(st.permutations(list(range(40))), st.integers(0, 3))
def test_the_split_does_not_depend_on_the_order_of_the_rows(order: list[int], seed: int) -> None:
    rows = made(40)
    assert split([rows[number] for number in order], 0.1, 0.2, seed) == split(rows, 0.1, 0.2, seed)


@settings(max_examples=25, deadline=None)
@example(4, 4, 0.375, 0.375, 0)  # rounded up twice, the fractions leave none for training
@given(st.integers(3, 60), st.integers(1, 20), st.floats(0.05, 0.4), st.floats(0.05, 0.4), st.integers(0, 99))
def test_no_group_is_on_two_sides_and_no_row_is_lost(
    rows: int, groups: int, dev: float, test: float, seed: int
) -> None:
    everything = made(rows, max(3, groups))
    parts = split(everything, dev, test, seed)
    held = [{row.group for row in part} for part in parts.values()]
    assert all(held) and not (held[0] & held[1] or held[0] & held[2] or held[1] & held[2])
    assert sorted(row for part in parts.values() for row in part) == everything


def test_fractions_are_of_the_groups_of_every_source() -> None:
    parts = split([*made(100), *made(50, source="b"), *made(20, 10, source="c")], 0.1, 0.2, 0)
    counts = {name: part["groups"] for name, part in sizes(parts).items()}
    assert counts == {"train": 112, "dev": 16, "test": 32}
    assert {source: sum(row.source == source for row in parts["test"]) for source in "abc"} == {
        "a": 20,
        "b": 10,
        "c": 4,
    }


def test_the_seed_changes_the_split() -> None:
    assert set(split(made(40), 0.1, 0.2, 0)["test"]) != set(split(made(40), 0.1, 0.2, 1)["test"])


def test_two_groups_are_too_few() -> None:
    with pytest.raises(UserError, match="at least 3"):
        split(made(2), 0.1, 0.2, 0)


def test_an_official_test_split_stays_and_what_is_near_it_leaves_training() -> None:
    rows = made(60, 30)  # rows n and n + 30 share a group
    rows = [row._replace(official="test") if row.position < 10 else row for row in rows]
    parts = split(rows, 0.1, 0.2, 0)
    assert sorted(row.position for row in parts["test"]) == list(range(10))
    train = {row.position for part in (parts["train"], parts["dev"]) for row in part}
    assert train == {n for n in range(60) if n % 30 >= 10}
    assert len({row.group for row in parts["dev"]}) == 2


def test_an_official_dev_split_stays_too_and_yields_to_test() -> None:
    rows = made(60, 30)
    official = {0: "test", 30: "dev", 1: "dev", 31: ""}
    parts = split(
        [row._replace(official=official.get(row.position, "")) for row in [*rows, *made(1)]][:60], 0.1, 0.2, 0
    )
    assert [row.position for row in parts["test"]] == [0]
    assert [row.position for row in parts["dev"]] == [1]
    assert not {0, 30, 1, 31} & {row.position for row in parts["train"]}
    assert len(parts["train"]) == 56


def test_the_studys_split_is_its_first_rows_and_ours_follow() -> None:
    rows = made(14_000)
    parts = study_split(rows, 0.1, 42)
    assert {name: len(part) for name, part in parts.items()} == {"train": 10_200, "dev": 1_800, "test": 1_200}
    assert {row.position for row in parts["train"] + parts["dev"]} == set(range(12_000))
    assert [row.position for row in parts["test"]] == list(range(12_000, 13_200))
    # numpy's permutation, which datasets.train_test_split is documented to draw: the held-out rows come first
    order = numpy.random.default_rng(42).permutation(12_000)
    assert [row.position for row in parts["dev"]] == order[:1_800].tolist()
    assert [row.position for row in parts["train"]] == order[1_800:].tolist()
    assert study_split(rows[:12_000], 0.1, 42)["test"] == parts["dev"]
