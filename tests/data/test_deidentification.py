"""De-identification: identifiers become placeholders, signatures go, what is medical stays."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

import planted
from corpus import turns
from medsft.data.rules.cleaning import clean_text
from medsft.data.rules.deidentification import RULES, changes, deidentify, deidentify_turns
from medsft.data.rules.identifiers.contacts import emails, platform_names
from medsft.data.rules.identifiers.person_names import doctor_names
from medsft.data.rules.identifiers.placeholders import replace_after
from medsft.data.rules.platform_names import PLATFORM
from medsft.data.rules.signatures import drop_signatures

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


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
    assert deidentify_turns(turns("Itch.", "Hi. I am Dr. Quill."))[0] == []
    kept, counts, fired = deidentify_turns(turns("Itch.", "I am Dr. Quill.", "Arm.", "Rest it."))
    assert kept == turns("Itch.\nArm.", "Rest it.")
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


@pytest.mark.parametrize("name", ["HealthCareMagic", "health care magic.com", "iCliniq", "ChatDoctor", "HealthTap"])
def test_a_platform_is_found_in_any_spelling_and_not_inside_a_word(name: str) -> None:
    assert PLATFORM.fullmatch(name)
    assert platform_names(f"on {name}, they said", "user", counts := Counter()) == "on [PLATFORM], they said"
    assert counts == {"PLATFORM": 1}
    assert not PLATFORM.search(f"x{name}") and not PLATFORM.search(f"{name.removesuffix('.com')}al")


def test_a_rule_replaces_its_own_kind_and_counts_it() -> None:
    counts: Counter[str] = Counter()
    assert emails("a@x.org and b@y.org", "user", counts) == "[EMAIL] and [EMAIL]"
    assert doctor_names("I saw Dr. Quill", "user", counts) == "I saw [DOCTOR]"
    assert counts == {"EMAIL": 2, "DOCTOR": 1}
    pattern = re.compile(r"(by )(\w+)")
    assert replace_after(pattern, "DOCTOR", "by Quill, by Monday", counts) == "by [DOCTOR], by Monday"


def test_signatures_go_from_answers_alone() -> None:
    text = "Rest it.\nRegards, [DOCTOR], Dermatologist"
    assert drop_signatures(text, "assistant", Counter()) == "Rest it."
    assert drop_signatures(text, "user", Counter()) == text


def test_changes_name_each_rule_with_the_text_before_and_after() -> None:
    text = "Mail a@x.org. Regards,\nDr. Elvira Quill"
    made = changes(text, "assistant")
    assert [change.rule for change in made] == ["email", "doctor_name", "sign_off"]
    assert made[0].before == text and made[-1].after == "Mail [EMAIL]."
    assert all(first.after == second.before for first, second in zip(made, made[1:], strict=False))
    assert changes(text, "assistant", skip=RULES) == []
