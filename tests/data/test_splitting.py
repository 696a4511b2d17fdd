"""Duplicates, groups and the split."""

import random
from typing import NamedTuple

import numpy
import pytest
from datasets import Dataset
from hypothesis import example, given, settings
from hypothesis import strategies as st

from medsft.data.data_report import sizes
from medsft.data.groups import splitting
from medsft.data.groups.near_duplicates import Groups, jaccard, join_near_duplicates, opening, shingles, sketch
from medsft.data.groups.splitting import Row, digest, drop_exact, split, study_split
from medsft.errors import UserError

LONG = (
    "for three weeks I have had a dull pain below the right ribs after fatty meals, it lasts an hour and then fades, "
    "I am forty one and take no medicine at all, should I have a scan of the gallbladder or wait and see"
)


class Told(NamedTuple):
    """A dialogue's turns and what the doctor said before them."""

    turns: list[tuple[str, str]]
    opened_by: str


def row(*texts: str, opened_by: str = "") -> Told:
    return Told([("user" if i % 2 == 0 else "assistant", text) for i, text in enumerate(texts)], opened_by)


def grouped(dialogues: list[Told], threshold: float = 0.7) -> list[Row]:
    keys = [splitting.keys(*told) for told in dialogues]
    rows = [Row(place, key["digest"], "a") for place, key in enumerate(keys)]
    return splitting.group(rows, Dataset.from_list(keys), threshold)[0]


def groups_of(*dialogues: Told) -> list[str]:
    return [row.group for row in grouped(list(dialogues))]


def distinct(count: int) -> list[Told]:
    generator = random.Random(7)
    words = [f"w{number}" for number in range(4000)]
    return [row(" ".join(generator.sample(words, 20)), f"Answer {n}") for n in range(1, count + 1)]


def near_duplicates(texts: list[str], threshold: float) -> Groups:
    """Groups of texts, all different, by what the library finds."""
    groups = Groups(len(texts))
    sketches = numpy.frombuffer(b"".join(map(sketch, texts)), dtype=numpy.uint32).reshape(len(texts), -1)
    join_near_duplicates(groups, numpy.arange(len(texts)), sketches, texts.__getitem__, threshold)
    return groups


def test_a_few_changed_words_make_a_near_duplicate() -> None:
    first, second, other = groups_of(
        row(LONG, "A scan."),
        row(LONG.replace("forty one", "forty two"), "No need."),
        row("my left ear has been blocked since a flight and I hear a hum", "Wait."),
    )
    assert first == second != other


@pytest.mark.parametrize("hello", ["Hello", "Yes", "Hello doctor"])
def test_short_openings_do_not_weld_unrelated_dialogues(hello: str) -> None:
    names = groups_of(
        row(hello, "What is it?", "My ear has been blocked since a flight and I hear a hum", "Wait."),
        row(hello, "What is it?", "My knee hurts on stairs and swells in the evening", "Rest."),
    )
    assert names[0] != names[1]


def test_answers_to_the_same_short_question_share_a_group() -> None:
    names = groups_of(row("Can viagra stop a period?", "No."), row("can Viagra stop a period?", "It does not."))
    assert names[0] == names[1]


@pytest.mark.parametrize("opened_by", ["", "Good morning, what brings you in today?"])
def test_rows_of_one_conversation_share_a_group(opened_by: str) -> None:
    turns = ["I have pain", "Where?", "Knee", "Since when?", "May", "Rest it."]
    names = groups_of(*[row(*turns[: 2 * n], opened_by=opened_by) for n in (1, 2, 3)])
    assert len(set(names)) == 1


def test_rows_with_the_same_earlier_turns_share_a_group() -> None:
    start = ("My knee hurts", "Which one?")
    names = groups_of(row(*start, "Left", "Rest."), row(*start, "Right", "Cool it."))
    assert names[0] == names[1]


@settings(max_examples=25, deadline=None)
@given(st.sets(st.text("abcdefgh", min_size=8, max_size=14), min_size=2, max_size=10))
def test_what_is_joined_is_linked_by_pairs_above_the_threshold(texts: set[str]) -> None:
    joined = [" ".join(text) for text in sorted(texts)]
    groups = near_duplicates(joined, 0.7)
    truth = brute_force(joined, 0.7)
    for first in range(len(joined)):
        for second in range(first):
            if groups.find(first) == groups.find(second):
                assert truth.find(first) == truth.find(second)


def brute_force(texts: list[str], threshold: float) -> Groups:
    sets = [shingles(text) for text in texts]
    truth = Groups(len(texts))
    for second in range(len(texts)):
        for first in range(second):
            if jaccard(sets[first], sets[second]) >= threshold:
                truth.join(first, second)
    return truth


def test_no_near_duplicate_is_missed_by_brute_force() -> None:
    generator = random.Random(3)
    texts = []
    for dialogue in distinct(150):
        words = dialogue.turns[0][1].split()
        texts += [" ".join(words), " ".join(words[:-1] + [generator.choice(["x", "y"])])]
        texts += [" ".join(words[2:]), " ".join(words[:9] + ["z"] + words[9:])]
    texts = sorted(set(texts))
    truth, found = brute_force(texts, 0.7), near_duplicates(texts, 0.7)
    assert truth.count() <= 200 < len(texts)
    assert found.count() == truth.count()


@pytest.mark.slow
def test_a_bucket_of_thousands_of_copies_is_no_matter_of_minutes() -> None:
    copies = [f"{LONG} number {number}" for number in range(2000)]
    assert near_duplicates(copies, 0.7).count() == 1


def test_an_opening_gathers_words_until_there_are_eight() -> None:
    assert opening(
        [("user", "Hello"), ("assistant", "What is it?"), ("user", "My ear hurts a lot"), ("assistant", "x")]
    ) == ("hello what is it my ear hurts a lot")


def test_exact_copies_are_dropped_and_the_official_one_stays() -> None:
    transcripts = [
        [("user", text), ("assistant", "Rest.")] for text in ("I cough", "i  cough\n", "I sneeze", "I COUGH")
    ]
    rows = [Row(place, digest(turns), "a") for place, turns in enumerate(transcripts)]
    assert [row.place for row in drop_exact(rows)] == [0, 2]
    assert [row.place for row in drop_exact([*rows[:3], rows[3]._replace(official="test")])] == [2, 3]


def made(count: int, groups: int = 0, source: str = "a") -> list[Row]:
    """Rows that differ, in `groups` groups; each its own if 0."""
    return [
        Row(n, digest([("user", f"{source}{n}")]), source, "", f"{source}{n % groups if groups else n}")
        for n in range(count)
    ]


@settings(max_examples=15, deadline=None)
@given(st.permutations(list(range(40))), st.integers(0, 3))
def test_the_split_does_not_depend_on_the_order_of_the_rows(order: list[int], seed: int) -> None:
    rows = made(40)
    assert split([rows[number] for number in order], 0.1, 0.2, seed) == split(rows, 0.1, 0.2, seed)


def test_group_names_do_not_depend_on_the_order_of_the_rows() -> None:
    rows = [*distinct(10), row(LONG, "A scan."), row(LONG + " please", "No.")]
    forwards, backwards = groups_of(*rows), groups_of(*rows[::-1])
    assert forwards == backwards[::-1]
    assert len(set(forwards)) == 11


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
    rows = [row._replace(official="test") if row.place < 10 else row for row in rows]
    parts = split(rows, 0.1, 0.2, 0)
    assert sorted(row.place for row in parts["test"]) == list(range(10))
    train = {row.place for part in (parts["train"], parts["dev"]) for row in part}
    assert train == {n for n in range(60) if n % 30 >= 10}
    assert len({row.group for row in parts["dev"]}) == 2


def test_an_official_dev_split_stays_too_and_yields_to_test() -> None:
    rows = made(60, 30)
    official = {0: "test", 30: "dev", 1: "dev", 31: ""}
    parts = split([row._replace(official=official.get(row.place, "")) for row in [*rows, *made(1)]][:60], 0.1, 0.2, 0)
    assert [row.place for row in parts["test"]] == [0]
    assert [row.place for row in parts["dev"]] == [1]
    assert not {0, 30, 1, 31} & {row.place for row in parts["train"]}
    assert len(parts["train"]) == 56


def test_the_studys_split_is_its_first_rows_and_ours_follow() -> None:
    rows = made(14_000)
    parts = study_split(rows, 0.1, 42)
    assert {name: len(part) for name, part in parts.items()} == {"train": 10_200, "dev": 1_800, "test": 1_200}
    assert {row.place for row in parts["train"] + parts["dev"]} == set(range(12_000))
    assert [row.place for row in parts["test"]] == list(range(12_000, 13_200))
    # numpy's permutation, which datasets.train_test_split is documented to draw: the held-out rows come first
    order = numpy.random.default_rng(42).permutation(12_000)
    assert [row.place for row in parts["dev"]] == order[:1_800].tolist()
    assert [row.place for row in parts["train"]] == order[1_800:].tolist()
    assert study_split(rows[:12_000], 0.1, 42)["test"] == parts["dev"]
