"""Names that the words around them give away become placeholders; drugs, verbs and symptoms there stay."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsft.data.rules.deidentification import deidentify
from medsft.data.rules.identifiers.names_by_context import named_persons

DRUGS = ["Amoxicillin", "Ramipril", "Metformin", "Warfarin", "Ibuprofen", "Paracetamol", "Insulin", "Ventolin"]


@pytest.mark.parametrize(
    ("text", "role", "after"),
    [
        ("My physiotherapist is called Odile Varga.", "user", "My physiotherapist is called [PERSON]."),
        ("We called him Kofi, he is two.", "user", "We called him [PERSON], he is two."),
        ("Linnea is my sister. She faints.", "user", "[PERSON] is my sister. She faints."),
        ("my old friend Bashir Khan has it", "user", "my old friend [PERSON] has it"),
        ("The midwife, Sunniva, was kind.", "user", "The midwife, [DOCTOR], was kind."),
        ("I was seen by doctor Varga today.", "user", "I was seen by doctor [DOCTOR] today."),
        ("I, Odile Varga, am 40.", "user", "I, [PATIENT], am 40."),
        ("The patient Odile Varga is my aunt.", "user", "The patient [PATIENT] is my aunt."),
        ("on behalf of Odile Varga I ask", "user", "on behalf of [PATIENT] I ask"),
        ("Odile Varga, female, 40. Cough.", "user", "[PATIENT], female, 40. Cough."),
        ("Odile here, 40, with a cough", "user", "[PATIENT] here, 40, with a cough"),
        ("Hello Odile, how is the cough?", "assistant", "Hello [PATIENT], how is the cough?"),
        ("I'm Odile, one of the nurses on the ward.", "assistant", "I'm [DOCTOR], one of the nurses on the ward."),
        ("Rest.\nSigned: O. Varga", "assistant", "Rest.\nSigned: [DOCTOR]"),
        ("My twins Kofi and Linnea cough.", "user", "My twins [PERSON] and [PERSON] cough."),
        ("dr. varga told me to rest", "user", "[DOCTOR] told me to rest"),
    ],
)
def test_a_name_in_a_context_is_replaced(text: str, role: str, after: str) -> None:
    counts: Counter[str] = Counter()
    assert named_persons(text, role, counts) == after
    assert counts.total() == after.count("[")


@pytest.mark.parametrize(
    "text",
    [
        "The drugs prescribed did not help; my dr then said rest. Drink water.",
        "Hello Doctor, chest pain. Dear Sir, stop it. Good Morning, fever.",
        "The doctor, However, said no. The nurse, Unfortunately, left.",
        "The patient Needs Rest. The patient Complains of pain.",
        "Redness here, 2 days. Pain here, 40 minutes a day.",
        "Blood Sugar, 110. Chest Pain, 40 years of it.",
        "My doctor is called away. We called it Sciatica.",
        "My friend Has shingles. I, Unfortunately, forgot it.",
        "the dr also said so and the dr only gave drops",
    ],
)
def test_what_is_no_name_stays(text: str) -> None:
    for role in ("user", "assistant"):
        assert named_persons(text, role, Counter()) == text


@given(
    st.sampled_from(DRUGS),
    st.sampled_from(
        [
            "{} 500 mg three times a day.",
            "Take {}. Avoid alcohol.",
            "Hello {} is safe with food.",
            "Hi, {} upsets my stomach.",
            "The doctor gave me {}, and it helped.",
            "{} is my usual tablet.",
            "Thanks, {} 5 mg is fine.",
            "I take {}, 40 mg at night.",
            "{}, that is the first choice.",
        ]
    ),
    st.sampled_from(["user", "assistant"]),
)
def test_no_drug_is_taken_for_a_name(drug: str, sentence: str, role: str) -> None:
    text = sentence.format(drug)
    assert deidentify(text, role)[0] == text
