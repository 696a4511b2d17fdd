"""Copies and groups: what belongs together."""

import pytest
from datasets import Dataset

from corpus import distinct_texts
from corpus import turns as alternating
from medsft.data.groups.group_keys import digest, group_keys
from medsft.data.groups.grouping import Row, drop_exact, group, remaining_rows
from medsft.data.reading.dialogue import arrange
from medsft.records import Turn

LONG = (
    "for three weeks I have had a dull pain below the right ribs after fatty meals, it lasts an hour and then fades, "
    "I am forty one and take no medicine at all, should I have a scan of the gallbladder or wait and see"
)


def row(*texts: str, opened_by: str = "") -> list[Turn]:
    """The turns of a dialogue that the doctor may have opened."""
    opening: list[Turn] = [{"role": "assistant", "content": opened_by}] if opened_by else []
    return arrange([*opening, *alternating(*texts)])[0]


def grouped(dialogues: list[list[Turn]], threshold: float = 0.7) -> list[Row]:
    keys = [group_keys(turns) for turns in dialogues]
    rows = [Row(position, key["digest"], "a") for position, key in enumerate(keys)]
    return group(rows, Dataset.from_list(keys), threshold)[0]


def groups_of(*dialogues: list[Turn]) -> list[str]:
    return [row.group for row in grouped(list(dialogues))]


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


@pytest.mark.parametrize("question", ["Can viagra stop a period?", "pain after hernia mesh", "我头痛三天了怎么办"])
def test_answers_to_the_same_short_question_share_a_group(question: str) -> None:
    names = groups_of(row(question, "No."), row(question.title(), "It does not, but many think so."))
    assert names[0] == names[1]


def test_conversations_that_begin_alike_are_not_welded() -> None:
    opened_by = "Good morning, what brings you in today, and how long have you had it?"
    names = groups_of(
        row("My ear has been blocked since a flight and I hear a hum", "Wait.", opened_by=opened_by),
        row("My knee hurts on stairs and swells in the evening", "Rest.", opened_by=opened_by),
    )
    assert names[0] != names[1]


def test_a_message_without_blanks_is_compared_character_by_character() -> None:
    text = "医生您好，我头痛三天了，体温三十七度，请问需要去医院吗？平时没有其他疾病，第一次出现。"
    first, second, other = groups_of(
        row(text, "休息。"),
        row(text.replace("三天", "四天"), "多喝水。"),
        row("我的耳朵自从坐飞机以后一直堵着，还能听见嗡嗡声", "等。"),
    )
    assert first == second != other


@pytest.mark.parametrize("opened_by", ["", "Good morning, what brings you in today?"])
def test_rows_of_one_conversation_share_a_group(opened_by: str) -> None:
    turns = ["I have pain", "Where?", "Knee", "Since when?", "May", "Rest it."]
    names = groups_of(*[row(*turns[: 2 * n], opened_by=opened_by) for n in (1, 2, 3)])
    assert len(set(names)) == 1


def test_a_short_beginning_belongs_to_the_only_way_it_goes_on() -> None:
    """'Hi' - 'Yes?' says nothing, but must not be trained on where the rest of its consultation is tested on."""
    begins, goes_on, elsewhere = ("Hi", "Yes?"), ("Hi", "Yes?", "It itches since March", "Where?"), ("Ok", "Go on.")
    first, second, other = groups_of(row(*begins), row(*goes_on), row(*elsewhere))
    assert first == second != other
    names = groups_of(row(*begins), row(*goes_on), row(*begins, "My ear has hurt since May", "Which one?"))
    assert len(set(names)) == 3


def test_rows_with_the_same_earlier_turns_share_a_group() -> None:
    start = ("My knee hurts", "Which one?")
    names = groups_of(row(*start, "Left", "Rest."), row(*start, "Right", "Cool it."))
    assert names[0] == names[1]


def test_exact_copies_are_dropped_and_the_official_one_stays() -> None:
    texts = ("I cough", "i  cough\n", "I sneeze", "I COUGH")
    rows = [Row(position, digest(alternating(text, "Rest.")), "a") for position, text in enumerate(texts)]
    assert [row.position for row in drop_exact(rows)] == [0, 2]
    assert [row.position for row in drop_exact([*rows[:3], rows[3]._replace(official="test")])] == [2, 3]


def test_group_names_do_not_depend_on_the_order_of_the_rows() -> None:
    rows = [*(row(text, "Answer") for text in distinct_texts(10)), row(LONG, "A scan."), row(LONG + " please", "No.")]
    forwards, backwards = groups_of(*rows), groups_of(*rows[::-1])
    assert forwards == backwards[::-1]
    assert len(set(forwards)) == 11


def test_rows_that_cleaning_dropped_are_left_out_and_positions_stay() -> None:
    read = Dataset.from_dict({"source": ["a", "a", "b"], "official": ["", "", "test"]})
    keys = Dataset.from_dict({"digest": ["1", "", "3"]})
    assert remaining_rows(read, keys) == [Row(0, "1", "a"), Row(2, "3", "b", "test")]
