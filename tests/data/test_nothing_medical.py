"""What cleaning and de-identification must leave alone: medicines, values, units and advice that look like something
else, beside the identifiers and courtesies of the same form, which go."""

from collections import Counter

import pytest

from medsft.data.rules import courtesy
from medsft.data.rules.deidentification import changes
from medsft.data.rules.markup import strip_html


def deidentified(text: str, level: str = "standard") -> str:
    made = changes(text, "user", (), level, Counter())
    return made[-1].after if made else text


@pytest.mark.parametrize(
    "text",
    [
        "We gave my daughter Augmentin. Stop Augmentin if there is a rash.",
        "I gave my son Calpol 5 ml and my daughter Nurofen.",
        "My dad Warfarin 5 mg daily, my aunt Eliquis tablets.",
        "She takes Ms Contin 30 mg.",
        "White Blood Cell 10.5 (4.0-11.0) Red Blood Cell 4.52 (4.20-5.40)",
        "T cell 1200 500 300, packed cell 36.0-46.0 40.2",
        "Red blood cell 4500000",
        "patient record: 140/90 150/95",
        "I am on Medicare 2019 rules",
        "Take 2 Tylenol place ice on it.",
        "Do not take 1 Xanax drive home.",
        "insulin 10 unit 5, Lantus Solostar",
        "B12 1ST dose",
        "When I look at a dot on the wall it moves.",
    ],
)
def test_medicines_values_and_doses_are_no_identifiers(text: str) -> None:
    assert deidentified(text) == text


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("my wife Helen has pain", "Helen"),
        ("my son, Oliver, fell", "Oliver"),
        ("I gave my son Oliver Calpol", "Oliver"),
        ("my daughter Emma was given Augmentin", "Emma"),
        ("my son Oliver 5 years old has a fever", "Oliver"),
        ("my son Oliver, 7, has a fever", "Oliver"),
        ("my son Oliver drops his cup", "Oliver"),
        ("I put my son Oliver on antibiotics", "Oliver"),
        ("I let my son Oliver sleep", "Oliver"),
        ("I gave my son Oliver a bath", "Oliver"),
        ("It was given by my husband Oliver", "Oliver"),
        ("I gave the baby milk and my husband Oliver slept", "Oliver"),
        ("12 Park drive, Leeds", "Park"),
        ("write to amit at yahoo dot in", "amit"),
        ("my cell is 555 123 4567", "4567"),
        ("cell: 555-123-4567", "4567"),
        ("cell phone 5551234567", "5551234567"),
        ("patient record number 12345678", "12345678"),
        ("I live at 12 Park Drive, London", "Park"),
        ("12 Oak Street", "Oak"),
        ("SW1A 2AA", "2AA"),
        ("write to john at gmail dot com", "john"),
    ],
)
def test_identifiers_of_the_same_form_go(text: str, gone: str) -> None:
    assert gone not in deidentified(text)


def test_a_medicine_behind_a_name_stays() -> None:
    assert deidentified("I gave my son Oliver Calpol.") == "I gave my son [PERSON] Calpol."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("You may first try rest. The first may be viral.", "You may first try rest. The first may be viral."),
        ("It began on 5 may 2019.", "It began on [DATE] 2019."),
        ("It began on the first of May.", "It began on [DATE]."),
    ],
)
def test_may_is_a_verb_beside_a_day_in_words(text: str, expected: str) -> None:
    assert deidentified(text, "safe_harbor") == expected


@pytest.mark.parametrize(
    "advice",
    [
        "Call your doctor now, do not stay home, and write back.",
        "Please see a doctor today and let me know if you are not well.",
        "Do not wait, contact your family physician and let me know.",
    ],
)
def test_advice_in_the_words_of_courtesy_stays(advice: str) -> None:
    assert courtesy.drop_closing_formulas(advice) == advice
    assert courtesy.drop_closing_formulas(f"{advice} Please do not hesitate to write back.") == advice


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('150 x 10<sup class="x">9</sup>/L', "150 x 10⁹/L"),
        ("10<sup><b>9</b></sup>/L", "10⁹/L"),
        ("10<sup>9/L</sup>", "10^9/L"),
        ("10<sup>–9</sup> mol", "10⁻⁹ mol"),
        ("1<sup>1</sup>/<sub>2</sub> tablets", "1 1/2 tablets"),
        ("the 5<sup>th</sup> day", "the 5th day"),
    ],
)
def test_an_exponent_does_not_join_its_number(text: str, expected: str) -> None:
    assert strip_html(text) == expected
