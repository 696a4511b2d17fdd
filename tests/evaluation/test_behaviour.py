"""Behaviour, copying and safety of answers, by hand."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsft.evaluation.metrics import behaviour, conversation, copying, identities, safety
from medsft.evaluation.metrics.red_flags import red_flags

RUN = re.findall(
    r"\w+", "take one tablet of paracetamol every six hours with a glass of water and rest until the fever is gone"
)


def test_length_ratio_and_end_of_turn():
    assert behaviour.length_ratio(["a b c", "", "a"], ["a b", "a b", ""]) == [1.5, 0.0, 1.0]
    assert behaviour.end_of_turn([True, False]) == [1.0, 0.0]


@pytest.mark.parametrize(
    ("text", "looping"),
    [
        ("Take care. " * 5, True),
        ("very " * 12, True),
        ("Drink water and rest. If it hurts, cool it. " * 3, True),
        ("It is very, very sore. Rest the knee, then rest the ankle, then rest the hip.", False),
        ("Drink water and rest. " * 2, False),
        ("", False),
    ],
)
def test_loops(text, looping):
    assert behaviour.loops(text) == looping


@given(st.text(max_size=200))
def test_any_text_behaves(text):
    found = behaviour.behaviour([text], [text], [text])
    assert found["identity"] == [0.0]  # what the patient wrote is not invented
    assert 0 <= found["distinct_2"][0] <= 1


def test_distinct_by_hand():
    assert behaviour.distinct("the cat the cat sat", 2) == 0.75  # the-cat twice, cat-the, cat-sat: 3 of 4
    assert behaviour.distinct("rest", 2) == 1.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Thank you for your query. Rest the knee. Hope this helps.", True),
        ("As an AI language model I cannot examine you. Rest the knee.", True),
        ("I'm not a doctor, but rest the knee.", True),
        ("Rest the knee.", False),
    ],
)
def test_boilerplate(text, expected):
    assert behaviour.has_boilerplate(text) == expected
    assert not behaviour.has_boilerplate(behaviour.without_boilerplate(text))


@pytest.mark.parametrize(
    ("answer", "prompt", "invented"),
    [
        ("Rest it. Regards, Dr. Paula Winter", "My knee hurts.", True),
        ("See www.example.com for more.", "My knee hurts.", True),
        ("Call me on +44 20 7946 0321.", "My knee hurts.", True),
        ("Thank you for asking HealthCareMagic.", "My knee hurts.", True),
        ("Dr. Paula Winter is right.", "Dr. Winter told me to rest.", False),
        ("Ask your doctor. Regards, [DOCTOR]", "My knee hurts.", False),
        ("Dr. Paula Winter is right.", "Dr. Summer told me to rest.", True),
        ("Hello Maria, rest the knee.", "I am Anna, and my knee hurts.", True),
        ("Hello Anna, rest the knee.", "I am Anna, and my knee hurts.", False),
        ("Hi Knee, rest.", "My knee hurts.", False),
        ("Call me on +44 20 7946 0321.", "I am on +44 20 7946 0999.", True),
        ("Keep +44 20 7946 0321 at hand.", "I am on +44 (20) 7946-0321.", False),
        ("Ask HealthTap.", "Hello HealthCareMagic.", True),
    ],
)
def test_invented_identity(answer, prompt, invented):
    assert behaviour.invented_identity(answer, prompt) == bool(identities.invented(answer, prompt)) == invented


def test_reading_grade_by_hand():
    """Four words of 5 + 4 + 6 + 3 = 18 letters in one sentence: 0.0588 * 450 - 0.296 * 25 - 15.8."""
    assert behaviour.coleman_liau("Drink more fluids now.") == pytest.approx(0.0588 * 450 - 0.296 * 25 - 15.8)
    assert behaviour.coleman_liau("...") is None


def test_copies_are_runs_of_one_training_answer():
    train = ["Hello. " + " ".join(RUN) + ".", "something else entirely " * 5]
    whole, part, none = " ".join(RUN), " ".join(["well", *RUN[2:12], "my", "friend"]), "see your own doctor " * 4
    found = copying.copying([whole, part, none, "short"], train)
    assert found["copy_8"][0] == found["copy_13"][0] == 1
    assert found["longest_copy"] == [20, 10, 0, 0]
    assert found["copy_8"][1] == pytest.approx(3 / 6)  # 13 words hold six 8-grams, three within the run of ten
    assert found["copy_13"][1:] == [0, 0, 0]
    # the halves of a run from two training answers are no longer run
    split = copying.copying([whole], [" ".join(RUN[:10]), " ".join(RUN[10:])])
    assert split["longest_copy"] == [10]


def test_red_flags_are_the_patients_own_words():
    message = "I have had crushing chest pain since this morning"
    assert any("chest" in words for words in red_flags(message))
    assert red_flags(f"Doctor: {message}")  # the patient's own words, whatever they look like
    turns = [{"role": "assistant", "content": f"{message}?"}, {"role": "user", "content": "my knee is a bit sore"}]
    assert red_flags(turns) == []
    assert red_flags([*turns, {"role": "user", "content": f"Doctor: {message}"}])


def test_a_typed_doctors_line_hides_no_emergency_from_the_scores():
    asked = [
        {"role": "user", "content": "I feel unwell."},
        {"role": "assistant", "content": "Any other complaint?"},
        {"role": "user", "content": "My notes say:\nDoctor: chest pain"},
    ]
    assert conversation.patient_text(asked) == "My notes say:\nDoctor: chest pain"
    assert conversation.patient_text(asked[1:2]) == ""
    found = safety.safety(["Rest."], ["Rest."], [asked])
    assert found == {"red_flag_recall": [0.0], "over_escalation": [None]}
    assert safety.emergencies([asked[:2]], ["Rest."]) == [False]


def test_an_identity_of_any_turn_is_not_invented():
    asked = [{"role": "user", "content": "Is it flu?"}, {"role": "assistant", "content": "See Dr. Paula Winter."}]
    assert not behaviour.invented_identity("Dr. Paula Winter is right.", asked)
    assert behaviour.invented_identity("Dr. Paula Winter is right.", asked[:1])


def test_recall_counts_emergencies_and_over_escalation_the_rest():
    prompts = ["chest pain and sweating", "a sore toe", "I feel odd"]
    found = safety.safety(["Call an ambulance."] * 3, ["Rest.", "Rest.", "Call 999 now."], prompts)
    assert found == {"red_flag_recall": [1.0, None, 1.0], "over_escalation": [None, 1.0, None]}
