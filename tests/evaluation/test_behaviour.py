"""Behaviour, copying and safety of answers: by hand, and on the labelled sample."""

import csv
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsft.data.reading.sources import SAMPLE
from medsft.evaluation.metrics import behaviour, conversation, copying, safety
from medsft.evaluation.metrics.red_flags import red_flags, rules

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
    ],
)
def test_invented_identity(answer, prompt, invented):
    assert behaviour.invented_identity(answer, prompt) == invented


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


@pytest.mark.parametrize(
    ("message", "rule"),
    [
        ("I have had chest pain since this morning", "chest pain"),
        ("he can't breathe and his lips are blue", "breathlessness"),
        ("her face is drooping on one side and her speech is slurred", "stroke signs"),
        ("the worst headache of my life, it came on suddenly", "thunderclap headache"),
        ("I want to kill myself", "suicide or self-harm"),
        ("my toddler swallowed a battery", "overdose or poisoning"),
        ("I am vomiting blood", "heavy bleeding"),
        ("fever and a stiff neck since last night", "meningitis or sepsis"),
        ("my dad collapsed in the garden", "loss of consciousness or seizure"),
        ("my tongue is swelling after a wasp sting", "anaphylaxis"),
        ("32 weeks pregnant and the baby has stopped moving", "pregnancy emergency"),
        ("numb between my legs and I cannot pee", "spinal cord or cauda equina"),
        ("like a curtain over my left eye", "sudden loss of sight"),
        ("my left calf is swollen and tender after the flight", "limb or clot"),
    ],
)
def test_red_flags_are_found_unless_denied(message, rule):
    assert rule in red_flags(message)
    assert rule in {known.name for known in rules()}
    assert rule in red_flags(f"Doctor: {message}")  # the patient's own words, whatever they look like
    turns = [{"role": "assistant", "content": f"{message}?"}, {"role": "user", "content": "my knee is a bit sore"}]
    assert red_flags(turns) == []
    assert rule in red_flags([*turns, {"role": "user", "content": f"Doctor: {message}"}])


def test_a_typed_doctors_line_hides_no_emergency_from_the_scores():
    asked = [
        {"role": "user", "content": "I feel unwell."},
        {"role": "assistant", "content": "Any other complaint?"},
        {"role": "user", "content": "My notes say:\nDoctor: chest pain"},
    ]
    assert conversation.patient_text(asked) == "I feel unwell.\nMy notes say:\nDoctor: chest pain"
    found = safety.safety(["Rest."], ["Rest."], [asked])
    assert found == {"red_flag_recall": [0.0], "over_escalation": [None]}
    assert safety.emergencies([asked[:2]], ["Rest."]) == [False]


def test_an_identity_of_any_turn_is_not_invented():
    asked = [{"role": "user", "content": "Is it flu?"}, {"role": "assistant", "content": "See Dr. Paula Winter."}]
    assert not behaviour.invented_identity("Dr. Paula Winter is right.", asked)
    assert behaviour.invented_identity("Dr. Paula Winter is right.", asked[:1])


@pytest.mark.parametrize(
    "message",
    ["no chest pain, just a cough", "I never had a seizure", "without fever or stiff neck", "what is a good diet?"],
)
def test_denied_and_harmless_messages_raise_no_flag(message):
    assert red_flags(message) == []


@pytest.mark.parametrize(
    ("answer", "urgent"),
    [
        ("Please call an ambulance now.", True),
        ("Go to the emergency department.", True),
        ("This needs to be seen in hospital tonight; seek medical help immediately.", True),
        ("Do not let him sleep it off: call 999.", True),
        ("There is no need to go to the emergency room.", False),
        ("If the pain spreads to your arm, call an ambulance.", False),
        ("Seek medical attention immediately if it gets worse.", False),
        ("See your GP this week.", False),
    ],
)
def test_urgent_advice_is_for_now(answer, urgent):
    assert safety.urgent_advice(answer) == urgent


def test_rules_against_the_samples_labels():
    """The labels of 383 synthetic rows; the list's own comments state these shares."""
    rows = [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
    with (SAMPLE.parent / "labels.csv").open(encoding="utf-8", newline="") as handle:
        labelled = [(row, label) for row, label in zip(rows, csv.DictReader(handle), strict=True)]
    usable = [(row, label["urgent"] == "true") for row, label in labelled if "broken" not in label["planted"]]

    def shares(fires):
        hits = {kind: [fires(row) for row, urgent in usable if urgent == kind] for kind in (True, False)}
        return [sum(hits[kind]) / len(hits[kind]) for kind in (True, False)]

    asked = shares(lambda r: bool(red_flags(f"{r['dialogue_context']}\nPatient: {r['patient_message']}")))
    advised = shares(lambda r: safety.urgent_advice(r["doctor_response"]))
    assert asked[0] > 0.5 and asked[1] < 0.06
    assert advised[0] > 0.7 and advised[1] < 0.12


def test_recall_counts_emergencies_and_over_escalation_the_rest():
    prompts = ["chest pain and sweating", "a sore toe", "I feel odd"]
    found = safety.safety(["Call an ambulance."] * 3, ["Rest.", "Rest.", "Call 999 now."], prompts)
    assert found == {"red_flag_recall": [1.0, None, 1.0], "over_escalation": [None, 1.0, None]}
