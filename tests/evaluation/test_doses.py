"""Dose contradictions: by hand."""

import pytest

from medsft.evaluation.metrics import doses, modules

REFERENCE = "Take amoxicillin 500 mg three times a day, and levothyroxine 50 mcg in the morning."


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Take amoxicillin 500 mg.", 0.0),
        ("Take amoxicillin 250 mg.", 0.0),  # a half is a choice, not a contradiction
        ("Take amoxicillin 100 mg.", 1.0),
        ("Take 5 g of amoxicillin.", 1.0),
        ("Take levothyroxine 50 mg.", 1.0),
        ("Take levothyroxine 0.05 mg.", 0.0),
        ("Take levothyroxine 50 µg and amoxicillin 50 mg.", 1.0),
        ("Take paracetamol 500 mg.", None),
        ("Rest.", None),
        ("Amoxicillin 50 mg/kg is the child's dose.", None),
        ("Inject amoxicillin 2.5 g into a vein, that is intravenous.", None),  # another route
        ("Amoxicillin 100 mg or amoxicillin 500 mg.", 0.0),
    ],
)
def test_a_dose_contradicts_where_it_is_five_times_the_references(answer: str, expected: float | None) -> None:
    assert doses.contradicts(answer, REFERENCE) == expected


def test_the_metric_scores_each_answer() -> None:
    found = modules.score("doses", ["Take amoxicillin 50 mg.", "Rest."], [REFERENCE, REFERENCE])
    assert found == {"dose_contradiction": [1.0, None]}
