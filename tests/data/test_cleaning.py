"""Cleaning: formulas, adverts and markup go, what is medical stays."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import read_all
from corpus import turns
from medsft.data.rules.cleaning import RULES, clean, clean_text
from medsft.data.rules.courtesy import COURTESY_RULES
from medsft.data.rules.deidentification import deidentify
from medsft.data.rules.markup import MARKUP_RULES

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
    assert clean(turns("Itch.", answer)) == (None, ["boilerplate_only"])


def test_an_earlier_turn_of_boilerplate_leaves_alternating_turns() -> None:
    cleaned, _ = clean(turns("Itch.", "Thanks for your query.", "Arm.", "Use a cream."))
    assert cleaned == turns("Itch.\nArm.", "Use a cream.")


def test_a_message_of_markup_alone_is_dropped() -> None:
    assert clean(turns("<br>", "Rest.")) == (None, ["empty_after_cleaning"])


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200), st.sampled_from(["user", "assistant"]))
def test_cleaning_twice_is_cleaning_once_and_never_fails(text: str, role: str) -> None:
    once, _ = clean_text(text, role)
    assert len(once) <= 4 * len(text) + 1
    deidentify(once, role)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real corpora are not beside this checkout")
def test_answers_by_physicians_are_left_alone() -> None:
    dialogues, _, count = read_all(SHARED / "kqa.jsonl")
    touched = 0
    for row in dialogues:
        cleaned, fired = clean(row.turns)
        assert cleaned is not None
        touched += bool(set(fired) - {"spaces"}) or any(
            sum(deidentify(turn["content"], turn["role"])[1].values()) for turn in cleaned
        )
    assert touched <= count // 100


def test_every_rule_is_listed_in_order_and_can_be_left_out() -> None:
    assert (*MARKUP_RULES, *COURTESY_RULES, "boilerplate_only") == RULES
    text = "Hello sir.<br/>Rest the knee. Hope this helps."
    assert clean_text(text, "assistant") == ("Rest the knee.", ["html", "greeting", "closing_formula"])
    for rule in ("html", "greeting", "closing_formula"):
        assert rule not in clean_text(text, "assistant", skip=[rule])[1]
    assert clean_text(text, "assistant", skip=RULES) == (text, [])
