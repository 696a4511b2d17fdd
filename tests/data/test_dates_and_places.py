"""Dates, ages and places, and words that are no names."""

from collections import Counter

import pytest

from medsft.data.rules.identifiers.dates_and_places import addresses, birth_dates, dates, great_ages, places
from medsft.data.rules.identifiers.not_names import is_no_name
from medsft.data.rules.identifiers.person_names import doctor_names


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("seen on March two thousand and seven", "seen on [DATE] two thousand and seven"),
        ("on the twenty fifth of September.", "on [DATE]."),
        ("It may 3 times worsen", "It may 3 times worsen"),
        ("10-12-15 mg steps of 1.5.20 mg", "10-12-15 mg steps of 1.5.20 mg"),
        ("on 5 May, 2020-02-03 and Oct 7", "on [DATE], [DATE] and [DATE]"),
    ],
)
def test_days_and_months_go_and_years_and_doses_stay(text: str, after: str) -> None:
    assert dates(text, "user", Counter()) == after


def test_a_country_and_a_department_are_no_place_of_a_person() -> None:
    text = "I live in Germany, was born in Munich and went to the Pulmonary Clinic, then to Mercy Hospital."
    after = "I live in Germany, was born in [PLACE] and went to the Pulmonary Clinic, then to [PLACE]."
    assert places(text, "user", Counter()) == after


def test_an_address_an_age_and_a_birth_date() -> None:
    counts: Counter[str] = Counter()
    assert addresses("Flat 2, 9 Oak Lane, SW1A 1AA", "user", counts) == "[ADDRESS], [POSTCODE]"
    assert addresses("5 Days On The Road", "user", counts) == "5 Days On The Road"
    assert great_ages("a 95 year old with SpO2 95 % at 96 kg", "user", counts) == (
        "a [AGE_OVER_89] year old with SpO2 95 % at 96 kg"
    )
    assert birth_dates("born at 32 weeks on 3 May 2020", "user", counts) == "born at 32 weeks on 3 May 2020"
    assert counts == {"ADDRESS": 1, "POSTCODE": 1, "AGE_OVER_89": 1}


@pytest.mark.parametrize("word", ["fever", "amoxicillin", "bronchitis", "working", "monday", "wife"])
def test_a_word_is_no_name(word: str) -> None:
    assert is_no_name(word) and not is_no_name("fenwick")


def test_the_sentence_after_a_doctors_initial_stays() -> None:
    assert doctor_names("with Doctor F. Also, rest.", "user", Counter()) == "with [DOCTOR]. Also, rest."
