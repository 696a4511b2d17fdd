"""Cleaning and de-identification take courtesy, adverts and identifiers. Numbers, units, drugs and negations stay."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus import turns
from medsft.data.rules.cleaning import clean, clean_text
from medsft.data.rules.courtesy import courteous
from medsft.data.rules.deidentification import LEVELS, deidentify, deidentify_turns
from medsft.data.rules.sentences import sentences
from medsft.data.transforms import clean_batch

DRUGS = "Drotaverine Paracetamol Amoxicillin Metformin Dramamine Druisnif Drospirenone Clonazepam Telma"
DRUG = st.sampled_from(DRUGS.split())
UNIT = st.sampled_from(["mg", "mcg", "g", "ml", "IU", "mmol/L", "%", "°C", "mmHg", "µg", "kΩ", "K", "Å", "cm²"])
NUMBER = st.one_of(
    st.integers(0, 9_999).map(str),
    st.decimals(0, 500, places=2).map(str),
    st.tuples(st.integers(1, 300), st.integers(1, 300)).map("{0[0]}-{0[1]}".format),
    st.tuples(st.integers(1, 9), st.integers(3, 12)).map(lambda pair: f"{pair[0]} x 10⁹/L"),
    st.tuples(st.integers(80, 220), st.integers(40, 120)).map("{0[0]}/{0[1]}".format),
    st.sampled_from(["<5", ">0.05", "≥ 3.5", "1,250,000", "0.5", ".25", "1/2", "½", "1-0-1", "7.35–7.45", "±2"]),
)
LAB = st.sampled_from(
    ["CD4", "BP", "HCG", "TSH", "Platelets", "WBC", "Ferritin", "Blood pressure", "HbA1c", "SpO2", "Hb"]
)
SYMPTOM = st.sampled_from(["fever", "chest pain", "drowsiness", "dryness", "drooling", "drainage from the ear", "DVT"])
NEGATION = st.sampled_from(["no", "not", "never", "without", "denies", "nor"])
OTHER = st.sampled_from(
    [
        "दिन में दो बार पैरासिटामोल 500 लें।",
        "建议布洛芬缓释胶囊口服，每日1次（饭后）；若加重请急诊就诊！",
        "Принимайте 5 мг утром.",
        "خذ 500 ملغ مرتين يوميا؟",
        "毎食後に２錠を飲んでください。",
        "Tome 0,5 mg cada 8 horas.",
    ]
)
MEDICAL = st.one_of(
    st.tuples(DRUG, NUMBER, UNIT).map(lambda p: f"{p[0]} {p[1]} {p[2]} twice daily."),
    st.tuples(DRUG, DRUG).map(lambda p: f"{p[0]}, not {p[1]}."),
    st.tuples(LAB, NUMBER, NUMBER, UNIT).map(lambda p: f"{p[0]} was {p[1]} and then {p[2]} {p[3]}."),
    st.tuples(LAB, st.lists(st.integers(100, 999), min_size=3, max_size=4)).map(
        lambda p: f"{p[0]} {' '.join(map(str, p[1]))} this week."
    ),
    st.tuples(NEGATION, SYMPTOM).map(lambda p: f"There is {p[0]} {p[1]}."),
    st.tuples(SYMPTOM, NUMBER).map(lambda p: f"{p[0].capitalize()} since {p[1]} days."),
    OTHER,
)
FRAME = st.sampled_from(
    [
        "Thanks for your query regarding {}",
        "Hope this helps: {}",
        "Hello, {}",
        "I understand your concern about {}",
        "{} Hope this helps.",
        "Thank you for your question. {}",
        "Thanks for your query {} Wish you good health.",
        "For more information on {} consult a dermatologist online -->",
        "Feel free to write back if {}",
        "{}",
    ]
)
TEXT = st.lists(MEDICAL, min_size=1, max_size=4).map(" ".join)
KEPT = re.compile(
    r"[^\w\s]*\d[\d.,/x⁰-⁹²-]*|[½%°µ≥≤<>±Ω²⁹]|\b(?:no|not|never|without|denies|nor)\b|[^\x00-\x7f]+", re.IGNORECASE
)


def medical_words(text: str) -> list[str]:
    """Every number, sign, negation and word of another script, and every word that is no courtesy, in order."""
    words = re.findall(r"\S+", text)
    return [word for word in words if KEPT.search(word) or not courteous(word.lower().strip(".,:;!?->"))]


@settings(max_examples=200, deadline=None)
@given(TEXT, FRAME, st.sampled_from(["user", "assistant"]), st.sampled_from(sorted(LEVELS)))
def test_no_medical_word_is_changed(text: str, frame: str, role: str, level: str) -> None:
    framed = frame.format(text)
    cleaned, _ = clean_text(framed, role)
    before, after = (
        [word for word in medical_words(side) if word not in ("dermatologist", "-->")]  # sent to the site by the frame
        for side in (framed, cleaned)
    )
    assert after == before
    assert deidentify(cleaned, role, level=level) == (cleaned, {})
    kept, names = clean(turns("It hurts.", framed))
    assert kept is not None, names
    assert deidentify_turns(kept, level=level) == (kept, {}, [])


@pytest.mark.parametrize(
    ("text", "after"),
    [
        (
            "Platelets 150 x 10<sup>9</sup>/L, clearance 10<sup>-3</sup> and SpO<sub>2</sub> 98",
            "Platelets 150 x 10⁹/L, clearance 10⁻³ and SpO2 98",
        ),
        ("the 5<sup>th</sup> day of 50&nbsp;mg", "the 5th day of 50 mg"),
        ("头痛三天，体温37.5℃；要去医院吗？（第一次）！", None),
        ("毎食後　２錠、１日３回。", None),
        ("5 kΩ at 310 K, 4 Å, ﬁve times, “quoted”", None),
        ("Take rest. Drink water.", None),
        ("It causes nausea, drowsiness.", None),
        ("Take rest. Drotaverine helps", None),
        ("Thanks for your query regarding 0.5 mg clonazepam.", None),
        (
            "Hope this helps. Dr. Rao's dose of 2.5 mg b.i.d. is right, e.g. at 8 a.m. and 8 p.m. Wish you well.",
            "Dr. Rao's dose of 2.5 mg b.i.d. is right, e.g. at 8 a.m. and 8 p.m.",
        ),
    ],
)
def test_markup_and_formulas_go_without_the_medicine(text: str, after: str | None) -> None:
    cleaned, _ = clean_text(text, "assistant")
    assert cleaned == (after or text)


@pytest.mark.parametrize(
    "answer",
    [
        "For any further chest pain consult a cardiologist online",
        "Revert back with CBC of 9.2 to a haematologist online",
        "Consult a doctor for bleeding or a surgeon online",
        "Please rate it 7 of 10",
        "Let me know if it is 38.5",
    ],
)
def test_an_advert_with_something_medical_in_it_stays(answer: str) -> None:
    assert clean_text(answer, "assistant")[0] == answer


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Take 0.5 mg. Rest.", ["Take 0.5 mg. ", "Rest."]),
        ("咳嗽三天。需要检查吗？休息！", ["咳嗽三天。", "需要检查吗？", "休息！"]),
        ("दवा लें। आराम करें॥ ठीक?", ["दवा लें। ", "आराम करें॥ ", "ठीक?"]),
        ("See Dr. Rao approx. 3 times, i.e. weekly. Fine", ["See Dr. Rao approx. 3 times, i.e. weekly. ", "Fine"]),
        ("Rest.Then walk.", ["Rest.", "Then walk."]),
        ("Is it?) Yes\nno", ["Is it?) ", "Yes\n", "no"]),
        ("See http://a.example/x?y=1.5 now. Go", ["See http://a.example/x?y=1.5 now. ", "Go"]),
        (".5 mg... ok", [".5 mg... ", "ok"]),
        ("", []),
    ],
)
def test_sentences(text: str, pieces: list[str]) -> None:
    assert list(sentences(text)) == pieces


@settings(deadline=None)
@given(st.text(st.sampled_from('a .1!?。।\nD"r'), max_size=40))
def test_sentences_joined_are_the_text(text: str) -> None:
    assert "".join(sentences(text)) == text


def test_rules_of_english_are_not_run_on_other_languages() -> None:
    spanish = turns(
        "Tengo fiebre desde hace dos días y me duele la cabeza.", "Hola. Tome paracetamol cada ocho horas. Thanks."
    )
    chinese = turns("我头痛三天了，请问需要去医院吗？", "Hello. 建议休息，多喝水。")
    english = turns("I have a fever and my head hurts.", "Hello. Rest.")
    made = clean_batch({"turns": [spanish, chinese, english]}, [])
    assert made["language"] == ["es", "zh", "en"] and made["script"] == ["LATIN", "HAN", "LATIN"]
    assert made["turns"] == [spanish, chinese, turns("I have a fever and my head hurts.", "Rest.")]
