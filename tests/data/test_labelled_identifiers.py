"""De-identification on labelled sentences: those that the rules were written with, and others that they were not."""

from pathlib import Path

import pytest

from corpus import turns
from medsft.data.rules.deidentification import LEVELS, RULES, deidentify, deidentify_turns
from medsft.data.rules.identifiers.measured import labelled_sentences, measure

DOCS = Path(__file__).resolve().parents[2] / "docs" / "your_data.md"


def test_the_sentences_are_many_and_hold_hard_negatives() -> None:
    for name, least in (("own", 150), ("held_out", 80)):
        found = labelled_sentences(name)
        assert len(found) >= least and sum(not sentence.marks for sentence in found) >= least // 3


def test_recall_and_precision_are_those_of_the_documentation() -> None:
    own, other = measure("own"), measure("held_out")
    assert own["recall"]["all"]["found"] >= 0.95 * own["recall"]["all"]["n"]
    assert own["wrong"] == other["wrong"] == []
    text = DOCS.read_text(encoding="utf-8")
    for name, part in other["recall"].items():
        kind = name.lower().replace("_", " ")
        row = f"| {kind} | {part['found']} of {part['n']} | {part['low']:.2f} to {part['high']:.2f} |"
        assert row in text, row


def test_an_identifier_is_found_only_if_nothing_is_left_of_it() -> None:
    found = measure("own", level="basic")["recall"]
    assert found["ADDRESS"]["found"] == 0 and found["EMAIL"]["found"] == found["EMAIL"]["n"]
    assert measure("own", level="basic")["recall"]["all"]["found"] < measure("own")["recall"]["all"]["found"]


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_replaces_its_own_kinds_alone(level: str) -> None:
    text = (
        "Born 3 May 1961, 94 years old, of 12 Elm Road; seen on 5 June 2020 in Ludlow, I live in Ludlow. Mail a@x.org"
    )
    kinds = set(deidentify(text, "user", level=level)[1])
    standard = {"EMAIL", "BIRTH_DATE", "AGE_OVER_89", "ADDRESS"}
    assert kinds == {"basic": {"EMAIL"}, "standard": standard, "safe_harbor": standard | {"DATE", "PLACE"}}[level]
    assert LEVELS["basic"] < LEVELS["standard"] < LEVELS["safe_harbor"] == {*RULES}


def test_a_name_that_was_found_once_is_replaced_in_every_turn() -> None:
    dialogue = turns("My name is uh Orla Fenwick.", "Orla, where does it hurt?", "Here.", "Thanks, Mrs Fenwick. Rest.")
    kept, counts, fired = deidentify_turns(dialogue)
    assert [turn["content"] for turn in kept[:2]] == ["My name is uh [PATIENT].", "[PATIENT], where does it hurt?"]
    assert "Fenwick" not in kept[-1]["content"] and counts["PATIENT"] == 2 and "patient_name" in fired


def test_what_the_doctor_asks_for_is_found_in_the_answer() -> None:
    asked = "Could I confirm your full name and date of birth please?"
    kept, counts, _ = deidentify_turns(
        turns("Hi.", asked, "Yes, it's Tobias Crane, third of May, nineteen sixty one.", "Rest.")
    )
    assert kept[2]["content"] == "Yes, it's [PATIENT], [BIRTH_DATE]." and counts == {"PATIENT": 1, "BIRTH_DATE": 1}
    unasked = turns("Hi.", "When did it start?", "Yes, it's Chest Pain, third of May.", "Rest.")
    assert deidentify_turns(unasked)[0] == unasked


@pytest.mark.parametrize("disease", ["Graves", "Crohn", "Parkinson"])
def test_an_eponym_is_no_name_of_the_dialogue(disease: str) -> None:
    dialogue = turns(f"My name is {disease} Lee and I have {disease}'s disease.", "Rest.")
    assert f"{disease}'s disease" in deidentify_turns(dialogue)[0][0]["content"]
