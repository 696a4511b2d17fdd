"""Duplicates, groups and the split."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsft.cli import UserError
from medsft.dialogue import Dialogue
from medsft.splitting import drop_exact, group, jaccard, near_duplicates, opening, shingles, sizes, split

LONG = (
    "for three weeks I have had a dull pain below the right ribs after fatty meals, it lasts an hour and then fades, "
    "I am forty one and take no medicine at all, should I have a scan of the gallbladder or wait and see"
)


def row(number: int, *texts: str, opened_by: str = "") -> Dialogue:
    turns = [("user" if i % 2 == 0 else "assistant", text) for i, text in enumerate(texts)]
    return Dialogue(f"a:{number}", "a", "", turns, opened_by)


def groups_of(*dialogues: Dialogue) -> list[str]:
    group(list(dialogues), 0.7)
    return [dialogue.group for dialogue in dialogues]


def distinct(count: int) -> list[Dialogue]:
    generator = random.Random(7)
    words = [f"w{number}" for number in range(4000)]
    return [row(n, " ".join(generator.sample(words, 20)), f"Answer {n}") for n in range(1, count + 1)]


def test_exact_copies_are_dropped_whatever_their_spaces_and_case() -> None:
    kept = drop_exact([row(1, "I cough", "Rest."), row(2, "i  cough\n", "rest."), row(3, "I cough", "Drink.")])
    assert [dialogue.id for dialogue in kept] == ["a:1", "a:3"]


def test_a_few_changed_words_make_a_near_duplicate() -> None:
    first, second, other = groups_of(
        row(1, LONG, "A scan."),
        row(2, LONG.replace("forty one", "forty two"), "No need."),
        row(3, "my left ear has been blocked since a flight and I hear a hum", "Wait."),
    )
    assert first == second != other


@pytest.mark.parametrize("hello", ["Hello", "Yes", "Hello doctor"])
def test_short_openings_do_not_weld_unrelated_dialogues(hello: str) -> None:
    names = groups_of(
        row(1, hello, "What is it?", "My ear has been blocked since a flight and I hear a hum", "Wait."),
        row(2, hello, "What is it?", "My knee hurts on stairs and swells in the evening", "Rest."),
    )
    assert names[0] != names[1]


def test_answers_to_the_same_short_question_share_a_group() -> None:
    names = groups_of(row(1, "Can viagra stop a period?", "No."), row(2, "can Viagra stop a period?", "It does not."))
    assert names[0] == names[1]


@pytest.mark.parametrize("opened_by", ["", "Good morning, what brings you in today?"])
def test_rows_of_one_conversation_share_a_group(opened_by: str) -> None:
    turns = ["I have pain", "Where?", "Knee", "Since when?", "May", "Rest it."]
    names = groups_of(*[row(n, *turns[: 2 * n], opened_by=opened_by) for n in (1, 2, 3)])
    assert len(set(names)) == 1


def test_rows_with_the_same_earlier_turns_share_a_group() -> None:
    start = ("My knee hurts", "Which one?")
    names = groups_of(row(1, *start, "Left", "Rest."), row(2, *start, "Right", "Cool it."))
    assert names[0] == names[1]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=8, max_size=14), min_size=2, max_size=10))
def test_every_pair_reported_is_above_the_threshold_and_equals_are_never_missed(texts: list[list[str]]) -> None:
    joined = [" ".join(words) for words in texts]
    pairs = near_duplicates(joined, 0.7)
    assert all(jaccard(shingles(joined[a]), shingles(joined[b])) >= 0.7 for a, b in pairs)
    for second, text in enumerate(joined):
        if text in joined[:second]:
            assert (joined.index(text), second) in pairs


def test_recall_of_near_duplicates_by_brute_force() -> None:
    generator = random.Random(3)
    texts = []
    for dialogue in distinct(60):
        words = dialogue.turns[0][1].split()
        texts += [" ".join(words), " ".join(words[:-1] + [generator.choice(["x", "y"])])]
    sets = [shingles(text) for text in texts]
    truth = {(a, b) for b in range(len(texts)) for a in range(b) if jaccard(sets[a], sets[b]) >= 0.7}
    assert len(truth) >= 60
    assert len(truth - set(near_duplicates(texts, 0.7))) <= 0.02 * len(truth)


def test_an_opening_gathers_words_until_there_are_eight() -> None:
    assert opening(
        [("user", "Hello"), ("assistant", "What is it?"), ("user", "My ear hurts a lot"), ("assistant", "x")]
    ) == ("hello what is it my ear hurts a lot")


@settings(max_examples=15, deadline=None)
@given(st.permutations(list(range(40))), st.integers(0, 3))
def test_the_split_does_not_depend_on_the_order_of_the_rows(order: list[int], seed: int) -> None:
    rows = distinct(40)
    for dialogue in rows:
        dialogue.group = dialogue.turns[0][1].split()[0]
    expected = {name: [r.id for r in part] for name, part in split(rows, 0.1, 0.2, seed).items()}
    assert {
        name: [r.id for r in part] for name, part in split([rows[i] for i in order], 0.1, 0.2, seed).items()
    } == expected


def test_group_names_do_not_depend_on_the_order_of_the_rows() -> None:
    rows = [*distinct(10), row(11, LONG, "A scan."), row(12, LONG + " please", "No.")]
    group(rows, 0.7)
    names = {dialogue.id: dialogue.group for dialogue in rows}
    group(rows[::-1], 0.7)
    assert {dialogue.id: dialogue.group for dialogue in rows} == names


@settings(max_examples=25, deadline=None)
@given(st.integers(3, 60), st.integers(1, 20), st.floats(0.05, 0.4), st.floats(0.05, 0.4), st.integers(0, 99))
def test_no_group_is_on_two_sides_and_no_row_is_lost(
    rows: int, groups: int, dev: float, test: float, seed: int
) -> None:
    dialogues = distinct(rows)
    for number, dialogue in enumerate(dialogues):
        dialogue.group = f"g{number % max(3, groups)}"
    parts = split(dialogues, dev, test, seed)
    held = [{dialogue.group for dialogue in part} for part in parts.values()]
    assert all(held) and not (held[0] & held[1] or held[0] & held[2] or held[1] & held[2])
    assert sorted(r.id for part in parts.values() for r in part) == sorted(r.id for r in dialogues)


def test_fractions_are_of_groups() -> None:
    dialogues = distinct(100)
    group(dialogues, 0.7)
    counts = sizes(split(dialogues, 0.1, 0.2, 0))
    assert {name: part["groups"] for name, part in counts.items()} == {"train": 70, "dev": 10, "test": 20}


def test_the_seed_changes_the_split() -> None:
    dialogues = distinct(40)
    group(dialogues, 0.7)
    assert {r.id for r in split(dialogues, 0.1, 0.2, 0)["test"]} != {
        r.id for r in split(dialogues, 0.1, 0.2, 1)["test"]
    }


def test_two_groups_are_too_few() -> None:
    dialogues = distinct(2)
    group(dialogues, 0.7)
    with pytest.raises(UserError, match="at least 3"):
        split(dialogues, 0.1, 0.2, 0)
