"""The script and the language of a text."""

import pytest

from corpus import turns
from medsft.data.rules.language import LOOKED_AT, WORDS, language_of, script_of, whole_text


@pytest.mark.parametrize(
    ("text", "script", "language"),
    [
        ("I have had a cough for a week and it is worse at night.", "LATIN", "en"),
        ("Amoxicillin 500 mg tds", "LATIN", "und"),
        ("Tengo tos desde hace una semana y no me deja dormir", "LATIN", "es"),
        ("J'ai mal à la tête depuis une semaine et je ne dors pas", "LATIN", "fr"),
        ("Ich habe seit einer Woche Husten und kann nicht schlafen", "LATIN", "de"),
        ("Dok, saya sudah batuk selama dua minggu dan tidak bisa tidur", "LATIN", "id"),
        ("我咳嗽一周了，BP 120/80", "HAN", "zh"),
        ("一週間前から咳が出ます", "KANA", "ja"),
        ("मुझे एक हफ्ते से खांसी है", "DEVANAGARI", "hi"),
        ("أعاني من السعال منذ أسبوع", "ARABIC", "ar"),
        ("У меня кашель уже неделю", "CYRILLIC", "ru"),
        ("기침을 일주일째 합니다", "HANGUL", "ko"),
        ("500 120/80", "", "und"),
    ],
)
def test_script_and_language(text: str, script: str, language: str) -> None:
    assert (script_of(text), language_of(text)) == (script, language)


def test_every_turn_is_looked_at() -> None:
    text = whole_text(turns("a" * 10_000, "b"))
    assert len(text) < LOOKED_AT and text.endswith("\nb") and WORDS["the"] == ["en"]
