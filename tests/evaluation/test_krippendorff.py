"""Krippendorff's alpha against the values that he published with his examples, and agreement of all raters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsft.evaluation.review import judge_correction, krippendorff
from medsft.evaluation.review.rater_agreement import TIE

# Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability": section A, B, and C with its ordinal value in D
MEG_AND_OWEN = ["0100000010", "1110010000"]
BEN_AND_GERRY = ["aabbdcccedda", "babbbccceddd"]
FOUR_OBSERVERS = ["123321412   ", "1233224125 3", " 3332342251 ", "12332441251 "]


def units(observers):
    return [[value for value in unit if value != " "] for unit in zip(*observers, strict=True)]


@pytest.mark.parametrize(
    ("observers", "order", "published"),
    [
        (MEG_AND_OWEN, "", 0.095),
        (BEN_AND_GERRY, "", 0.692),
        (FOUR_OBSERVERS, "", 0.743),
        (FOUR_OBSERVERS, "12345", 0.815),
    ],
)
def test_his_own_examples(observers, order, published):
    assert krippendorff.alpha(units(observers), order) == pytest.approx(published, abs=5e-4)


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=4), max_size=12), st.randoms())
def test_alpha_is_at_most_one_and_does_not_depend_on_who_said_it(some, random):
    value = krippendorff.alpha(some, "abc")
    mixed = [random.sample(unit, len(unit)) for unit in some]
    assert krippendorff.alpha(mixed, "abc") == (None if value is None else pytest.approx(value))
    assert value is None or value <= 1 + 1e-9
    alike = [[unit[0]] * len(unit) for unit in some if unit]
    assert krippendorff.alpha(alike) in (None, pytest.approx(1))


def test_a_tie_is_half_a_disagreement_and_units_left_out_do_not_count():
    def rating(number, choice):
        return {"pair": number, "id": number, "group": number, "choice": choice, "unsafe": [], "repeat_of": None}

    sure = {"a": [rating(n, "lora" if n % 2 else "baseline") for n in range(20)]}
    raters = {
        **sure,
        "ties": [rating(n, TIE if n < 4 else sure["a"][n]["choice"]) for n in range(15)],
        "repeats": [{**rating(n, "baseline"), "repeat_of": 3} for n in range(20)],  # not counted again
    }
    turned = {**sure, "b": [rating(n, "lora" if (n < 4) != (n % 2) else "baseline") for n in range(15)]}
    mild, strong = (
        judge_correction.alpha_of_raters(some, ("baseline", "lora"), 200, 0.95, 0) for some in (raters, turned)
    )
    assert strong["mean"] < mild["mean"] < 1
    assert mild["low"] <= mild["mean"] <= mild["high"]
