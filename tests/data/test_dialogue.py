"""Dialogues: turns that alternate, from the patient to the doctor."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus import turns
from medsft.data.reading.dialogue import Dialogue, Rejected, arrange, read_row
from medsft.data.reading.row_schemas import MEDDIALOG
from medsft.data.reading.sources import Part
from medsft.records import Turn

TURN = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant"]), "content": st.text("ab", min_size=1, max_size=3)}
)


@given(st.lists(TURN, max_size=12))
def test_arranged_turns_alternate_from_patient_to_doctor(given_turns: list[Turn]) -> None:
    before = [dict(turn) for turn in given_turns]
    arranged, _, _ = arrange(given_turns)
    assert given_turns == before, "the turns given are left as they are"
    assert [turn["role"] for turn in arranged] == ["user", "assistant"] * (len(arranged) // 2)
    assert arrange(arranged)[0] == arranged


@pytest.mark.parametrize(
    ("given_turns", "repair", "left", "opened_by"),
    [
        (turns("", "Hello", "Hi", "Yes?")[1:], "leading_doctor_turn", turns("Hi", "Yes?"), "Hello"),
        (turns("Hi", "Yes?", "Thanks"), "trailing_patient_turn", turns("Hi", "Yes?"), ""),
        ([*turns("Hi"), *turns("Doctor", "Yes?")], "merged_turns", turns("Hi\nDoctor", "Yes?"), ""),
    ],
)
def test_repairs_are_counted(given_turns: list[Turn], repair: str, left: list[Turn], opened_by: str) -> None:
    assert arrange(given_turns) == (left, opened_by, [repair])


def test_a_row_becomes_a_dialogue_or_is_rejected_without_its_text() -> None:
    part = Part("mine.csv", "mine", "clinic", "test", Path("folder/mine.csv"))
    row = {"patient_message": "My ear hurts.", "doctor_response": "Since when?"}
    assert read_row(row, 7, part, MEDDIALOG) == Dialogue(
        "mine:7", "clinic", turns("My ear hurts.", "Since when?"), "test"
    )
    bad = read_row({**row, "doctor_response": None}, 8, part._replace(split="train"), MEDDIALOG)
    assert bad == Rejected("mine.csv", 8, "doctor_response", "null", "clinic")
