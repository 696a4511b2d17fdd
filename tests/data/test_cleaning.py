"""Cleaning and de-identification: what must go goes, what is medical stays."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import planted
from conftest import read_all
from medsft.data.rules.cleaning import clean, clean_text
from medsft.data.rules.deidentification import deidentify, deidentify_turns

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.mark.parametrize(
    ("rule", "before", "after"),
    [
        ("mojibake", "donâ€™t stop", "don’t stop"),
        ("html", "Rest.<br/>Drink &amp; sleep.<p>TSH <5 and &lt;b&gt;bold&lt;/b&gt; FT4 > 2", None),
        ("html", "a&amp;nbsp;b", "a b"),
        ("spaces", "a\u00a0\u00a0b\u200b  c\r\n\r\n\r\nd ", "a b c\n\nd"),
        ("dangling_arrow", "Use a cream. --> <link>", "Use a cream."),
        ("advert", "Use a cream. For further doubts consult a dermatologist online -->", "Use a cream."),
        (
            "advert",
            "Use it. Revert back with the answers to the above questions to an endocrinologist online",
            "Use it.",
        ),
        ("opening_formula", "Thanks for your query on HealthCareMagic.I can understand your concern. Rest.", "Rest."),
        ("opening_formula", "I have gone through your question in detail and understand your concern. Rest.", "Rest."),
        ("opening_formula", "Welcome to MediAsk Online! Rest the knee.", "Rest the knee."),
        ("greeting", "Hello sir. Rest. Hi there!", "Rest."),
        ("closing_formula", "Rest. Thanks and regards.", "Rest."),
        ("closing_formula", "Rest.\nThank you\nTake care", "Rest."),
        ("closing_formula", "Rest. Wishing good health to your mother. All the best!", "Rest."),
        ("closing_formula", "Rest. Hope I have answered your query. Wishing you good health.", "Rest."),
        ("closing_formula", "Rest. Would you like to video or text chat with me?", "Rest."),
        ("closing_formula", "Rest.\nHope this helps.\nRegards, Dr. Elvira Quill", "Rest.\n\nRegards, Dr. Elvira Quill"),
    ],
)
def test_each_rule_does_what_its_name_says(rule: str, before: str, after: str | None) -> None:
    text, fired = clean_text(before, "assistant")
    assert rule in fired
    assert text == (after or "Rest.\nDrink & sleep.\nTSH <5 and bold FT4 > 2")


@pytest.mark.parametrize(
    "text",
    [
        "Hello, rest the knee.",
        "I understand your concern about the biopsy, but a benign result is likely.",
        "Hope for improvement within two weeks; if the fever stays, see a doctor today.",
        "Thank you for sharing the X-ray, which shows a fracture.",
        "Please book a visit with your physician today.",
        "You can call a doctor day and night.",
        "Consult a cardiologist this week.",
        "Do not buy antibiotics online.",
        "Let me know if you have fever or chest pain.",
        "Trust your doctor.",
        "Take care of your child.",
        "Hi, your mother has fever.",
        "Best of all is rest.",
        "Let me know if your mother has fever.",
        "How would you rate it now?",
        "Take 500 mg every 6 hours, at most 4 g in 24 hours.",
        "If a<b and c>d, then BP 119/64 --> normal.",
        "Ask your doctor whether testing online is reliable.",
    ],
)
def test_medical_sentences_survive(text: str) -> None:
    assert clean_text(text, "assistant") == (text, [])


def test_the_patient_keeps_courtesies() -> None:
    text = "Hope this helps. Thanks for your answer on iCliniq."
    assert clean_text(text, "user") == (text, [])


@pytest.mark.parametrize(
    "answer",
    [
        "Hi. For further doubts consult a dermatologist online -->",
        "Thanks for your query. Hope this helps. Wishing you good health. Regards.",
        "<br/>Welcome to AskDocNow!",
    ],
)
def test_an_answer_of_boilerplate_alone_is_dropped(answer: str) -> None:
    assert clean([("user", "Itch."), ("assistant", answer)]) == (None, ["boilerplate_only"])


def test_an_earlier_turn_of_boilerplate_leaves_alternating_turns() -> None:
    turns = [
        ("user", "Itch."),
        ("assistant", "Thanks for your query."),
        ("user", "Arm."),
        ("assistant", "Use a cream."),
    ]
    cleaned, _ = clean(turns)
    assert cleaned is not None
    assert cleaned == [("user", "Itch.\nArm."), ("assistant", "Use a cream.")]


def test_a_message_of_markup_alone_is_dropped() -> None:
    assert clean([("user", "<br>"), ("assistant", "Rest.")]) == (
        None,
        ["empty_after_cleaning"],
    )


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200), st.sampled_from(["user", "assistant"]))
def test_cleaning_twice_is_cleaning_once_and_never_fails(text: str, role: str) -> None:
    once, _ = clean_text(text, role)
    assert len(once) <= 4 * len(text) + 1
    deidentify(once, role)


@pytest.mark.parametrize(
    ("text", "role", "after"),
    [
        ("Write to cold.hand77@example.org please", "user", "Write to [EMAIL] please"),
        ("see https://www.example.org/a-b?c=d. Bye", "assistant", "see [URL]. Bye"),
        ("(www.example.com/swallow)", "assistant", "([URL])"),
        ("Call +1 202-555-0147.", "assistant", "Call [PHONE]."),
        ("tel 020 7946 0321) told", "user", "tel [PHONE]) told"),
        ("ring (202) 555-0143 or +49 30 901820", "user", "ring [PHONE] or [PHONE]"),
        (
            "Rest.\nRegards,\nDr. Elvira Quillfeather, Dermatologist",
            "assistant",
            "Rest.\nRegards,\n[DOCTOR], Dermatologist",
        ),
        ("Regards\nElvira Quill", "assistant", "Regards\n[DOCTOR]"),
        ("speedy recovery … dr. ayman darrag", "assistant", "speedy recovery … [DOCTOR]"),
        ("Doctor Kumar's note", "user", "[DOCTOR]'s note"),
        ("I saw Dr O'Neill-Smith", "user", "I saw [DOCTOR]"),
        ("Hi, my name is becky and I cough", "user", "Hi, my name is [PATIENT] and I cough"),
        ("I am Tobiah Wrenfield, 33.", "user", "I am [PATIENT], 33."),
        ("Hi, Philomena Garrow-Tate here, 76.", "user", "Hi, [PATIENT] here, 76."),
        ("Welcome to Healthcaremagic.comI have read it", "assistant", "Welcome to [PLATFORM]I have read it"),
    ],
)
def test_identifiers_become_placeholders(text: str, role: str, after: str) -> None:
    replaced, counts = deidentify(text, role, skip=["sign_off"])
    assert replaced == after
    assert sum(counts.values()) == after.count("[")


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        ("Rest.\nRegards,\nDr. Elvira Quillfeather, Dermatologist", "Rest."),
        ("Rest it. Thanks and regards, Dr Quill MBBS, MD (Medicine)", "Rest it."),
        ("Rest itRegards,Dr. Quill.", "Rest it"),
        ("Is it better? Dr. A. Quill, General Surgeon", "Is it better?"),
        ("Best wishes,\nElvira Quill", ""),
        ("Hello, I am Dr. Quill. Rest it.", "Rest it."),
        ("My name is Dr. Quill and I am happy to help you. Rest it.", "Rest it."),
        ("My name is Dr. Quill and your knee is torn.", "My name is [DOCTOR] and your knee is torn."),
        ("Ask him.\nDr. Quill said to rest it", "Ask him.\n[DOCTOR] said to rest it"),
        ("Please consult Dr. Quill.", "Please consult [DOCTOR]."),
        ("Go back to your surgeon, Dr. Quill", "Go back to your surgeon, [DOCTOR]"),
        ("He disregards Dr. Quill", "He disregards [DOCTOR]"),
    ],
)
def test_a_signature_goes_and_a_doctor_who_is_talked_about_stays(answer: str, left: str) -> None:
    assert deidentify(answer, "assistant")[0] == left
    assert "[DOCTOR]" in deidentify(answer, "user")[0] or answer.endswith("Elvira Quill")


def test_an_answer_of_a_signature_alone_is_dropped() -> None:
    assert deidentify_turns([("user", "Itch."), ("assistant", "Hi. I am Dr. Quill.")])[0] == []
    turns = [("user", "Itch."), ("assistant", "I am Dr. Quill."), ("user", "Arm."), ("assistant", "Rest it.")]
    kept, counts, fired = deidentify_turns(turns)
    assert kept == [("user", "Itch.\nArm."), ("assistant", "Rest it.")]
    assert (counts, fired) == ({"DOCTOR": 1}, ["doctor_name", "sign_off"])


@pytest.mark.parametrize(
    "text",
    ["thanks regards take care " * 4_000 + "[DOCTOR] " * 2_000 + "and so on", "\n" * 50_000, "a.b-" * 20_000 + "@"],
)
@pytest.mark.timeout(60)
def test_a_long_text_of_one_thing_takes_no_time(text: str) -> None:
    for role in ("user", "assistant"):  # a search that starts anew at every place would take minutes
        deidentify(text, role)


@pytest.mark.parametrize(
    "text",
    [
        "BP 119/64, pulse 72, 12/03/2020, 2020-03-12, 7.35, 10-20-30 mg, 1000 to 2000 mg, 1,250,000 copies, 36.6",
        "Day 1 2 3 4 5 6 7 8; doses 5 10 15 20 25 30; platelets 250000; phone for help on 112 or 911",
        "I called the Dr. If it gets worse I will go. The drug works. Drink. Doctors say Drs. My address is",
        "Ask your doctor. Most people recover. See the family doctor Thursday. Hello Doctor I have pain",
        "I am Pregnant Since May, I am Very Worried, I am Having Pain, and I am 30.",
        "Fever.Then rash. concern.it is fine. e.g. this",
    ],
)
def test_what_is_no_identifier_stays(text: str) -> None:
    for role in ("user", "assistant"):
        assert deidentify(text, role)[0] == text


def test_planted_identifiers_are_found_and_little_else_is_taken_for_one() -> None:
    """Faker's names, numbers and addresses of three countries; a first name that is a month or a word may be missed."""
    found = planted.measure(45, seed=1)
    limits = {"name without a title", "name in lower case"}
    assert {kind for kind, part in found["recall"].items() if part["share"] >= 0.95} == set(planted.CARRIERS) - limits
    assert found["precision"]["share"] >= 0.98


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real corpora are not beside this checkout")
def test_answers_by_physicians_are_left_alone() -> None:
    dialogues, _, count = read_all(SHARED / "kqa.jsonl")
    touched = 0
    for row in dialogues:
        cleaned, fired = clean(row.turns)
        assert cleaned is not None
        touched += bool(set(fired) - {"spaces"}) or any(
            sum(deidentify(text, role)[1].values()) for role, text in cleaned
        )
    assert touched <= count // 100


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real corpora are not beside this checkout")
def test_no_signature_url_or_platform_is_left_in_raw_consultations() -> None:
    lines = (SHARED / "covid_dialogue_en.jsonl").read_text(encoding="utf-8").splitlines()
    answers = [
        deidentify(clean_text(json.loads(line)["doctor_response"], "assistant")[0], "assistant")[0] for line in lines
    ]
    whole = "\n".join(answers).lower()
    assert "[doctor]" not in whole
    for leak in ("http", "www.", "healthcaremagic", "healthtap", "bhavsar", "jnikolla", "jolanda", "thanks for your q"):
        assert leak not in whole
    assert not re.search(r"\w@\w", whole)
