"""ROUGE, lengths and words in other scripts; English scores are rouge_score's to the last digit."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenize import tokenize

from medsft.evaluation.metrics import behaviour, overlap, scripts

CHINESE = [
    "建议您多休息，多喝水，体温超过38度时可以服用退烧药。",
    "您的症状像是胃炎，请清淡饮食，必要时做胃镜检查。",
    "血压140/90偏高，请每天测量并记录，两周后复诊。",
    "皮疹可能是过敏引起的，先停用新的化妆品观察3天。",
]
SPANISH = ["Está bien tomar paracetamol cada ocho horas.", "Debería ver a un médico si la fiebre continúa más días."]
ENGLISH = ["Take 500 mg of paracetamol twice daily.", "The naïve patient's fever wasn't 38.5 °C; see a doctor, please."]


@given(st.text(st.characters(max_codepoint=127)))
def test_the_words_of_ascii_text_are_rouge_scores_own(text: str) -> None:
    assert scripts.words(text) == tokenize(text, None)
    assert scripts.spaced(text) == text


@pytest.mark.parametrize("stem", [True, False])
def test_english_scores_are_rouge_scores_to_the_last_digit(stem: bool) -> None:
    long = [
        " ".join(random.Random(n).choices([*"abcdef", "fever", "tablets", "don't", "café"], k=60)) for n in range(9)
    ]
    english = [*ENGLISH, *("The patient should rest and drink water for a few days, then come back. " * 9,) * 3]
    predictions, references = [*long, *english], [*reversed(english), *reversed(long)]
    references = [text.replace("café", "cafe") for text in references]
    assert scripts.is_english(references)
    theirs = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=stem)
    ours = overlap.rouge(predictions, references, stem)
    for at, (prediction, reference) in enumerate(zip(predictions, references, strict=True)):
        for name, score in theirs.score(reference, prediction).items():
            found = (ours[f"{name}_precision"][at], ours[f"{name}_recall"][at], ours[name][at])
            assert found == (score.precision, score.recall, score.fmeasure)


def test_chinese_answers_are_compared_by_their_characters_and_not_by_digits() -> None:
    same, others = overlap.rouge(CHINESE, CHINESE), overlap.rouge(CHINESE, [*CHINESE[1:], CHINESE[0]])
    assert same["rouge1"] == same["rougeL"] == same["rouge2"] == [1.0] * 4
    assert max(others["rouge1"]) < 0.4 and max(others["rouge2"]) < 0.2
    assert scripts.only_digits(CHINESE) == 1.0 and scripts.only_digits(ENGLISH) == 0.0
    assert scripts.words("体温38度") == ["体", "温", "38", "度"]


def test_accents_and_vowel_signs_stay_in_their_words() -> None:
    assert scripts.words("Está más") == ["está", "más"]
    assert scripts.words("मुझे बुखार है।") == ["मुझे", "बुखार", "है"]
    assert not scripts.is_english(SPANISH) and scripts.is_english(ENGLISH * 9 + ["word " * 400])
    assert overlap.rouge(["esta"], [SPANISH[0]])["rouge1"] == [0.0]


def test_lengths_and_loops_of_scripts_without_spaces_count_characters() -> None:
    assert behaviour.length_ratio([CHINESE[0] * 2, "a b"], [CHINESE[0], "a b c d"]) == pytest.approx([2, 0.5], abs=0.1)
    assert behaviour.loops("多喝水多喝水多喝水多喝水") and not behaviour.loops(CHINESE[0])
    (cut,), (whole,) = (
        overlap.corrected_sides([text], [CHINESE[0]])["matched"][0] for text in (CHINESE[0] * 2, "多喝水")
    )
    assert len(behaviour.words(cut)) <= len(scripts.spaced(CHINESE[0]).split()) < len(cut) + 3 and whole == "多喝水"
    assert cut == CHINESE[0]
