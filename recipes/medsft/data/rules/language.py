"""The script and the language of a text, by its letters and by the commonest words of each language.

It is evidence enough to tell whether rules that know English may hold; it is no identification of a language: of the
languages that share a script other than Latin, the one with most speakers is named.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

from medsft.records import Turn

ENGLISH = ("en", "und")  # 'und': too few common words of any language, such as 'Amoxicillin 500 mg'
LOOKED_AT = 1_000  # characters
LETTERS = re.compile(r"[^\W\d_]+")
BY_SCRIPT = {"HAN": "zh", "KANA": "ja", "HANGUL": "ko", "DEVANAGARI": "hi", "ARABIC": "ar", "CYRILLIC": "ru"}
BY_SCRIPT |= {"THAI": "th", "GREEK": "el", "HEBREW": "he", "BENGALI": "bn", "TAMIL": "ta", "TELUGU": "te"}
BY_SCRIPT |= {"GUJARATI": "gu", "GURMUKHI": "pa", "KANNADA": "kn", "MALAYALAM": "ml", "ETHIOPIC": "am"}
NAMED = {"CJK": "HAN", "HIRAGANA": "KANA", "KATAKANA": "KANA"}
COMMON = {
    "en": "the and is of to you i it that for my in have with this not are be your was but on what if or can do has",
    "es": "el la los las que y es un una por con para no se del lo como más pero tengo mi está muy desde qué hace me",
    "fr": "le la les des et est un une que je vous pour dans pas du ne qui au avec sur mon ai depuis suis ma il j",
    "de": "der die das und ist ich nicht ein eine zu den mit auf für sie es dem von habe bei seit mein sich auch haben",
    "it": "il la che di è e un una per non sono con ho mi da lo le del della dei gli si mio anche come più ha",
    "pt": "o a que de e é um uma não com para eu os as do da em no na meu minha está por mais tenho há faz",
    "nl": "de het een en ik is van niet dat met voor op zijn te er maar heb mijn ook aan bij naar wat geen al",
    "id": "yang dan di saya ini itu tidak untuk dengan dari ke pada sudah ada dok apakah anda bisa juga karena selama",
    "tr": "bir ve bu için çok ne var mi mı da de ile ben benim ama daha gibi kadar yok olan sonra neden olarak",
    "vi": "tôi là và bị không của có các được cho một bác sĩ em bạn này với khi đã thì như rất đau nên",
    "pl": "nie jest się na do że i w z mam to od jak czy po dla ale mnie są przez przy już bardzo mi",
    "ro": "și nu este de la cu pe un o că am să în din mai pentru sunt care fi ce mă dar îmi după",
}
WORDS: dict[str, list[str]] = {}  # {word: languages}
for name, common in COMMON.items():
    for known in set(common.split()):
        WORDS.setdefault(known, []).append(name)
LEAST = 2  # common words of a language that make it evidence; of another than English one more, and twice English's


def script_of(text: str) -> str:
    """The script of most letters, by its Unicode name: LATIN, HAN, KANA, DEVANAGARI, ...; '' for a text without any.

    Kana among Han characters make it KANA: Japanese is written in both.
    """
    text = text[:LOOKED_AT]
    if text.isascii():
        return "LATIN" if LETTERS.search(text) else ""
    letters = "".join(LETTERS.findall(text))
    if not letters:
        return ""
    counts: Counter[str] = Counter()
    for letter, count in Counter(letters).items():
        name = "LATIN" if letter.isascii() else unicodedata.name(letter, "LATIN").split()[0]
        counts[NAMED.get(name, name)] += count
    if counts["KANA"] and counts["HAN"] + counts["KANA"] > counts["LATIN"]:
        return "KANA"
    return counts.most_common(1)[0][0]


def language_of(text: str, script: str | None = None) -> str:
    """A language code; 'und' where nothing speaks for a language. `script` is that of the text, if it is known."""
    script = script_of(text) if script is None else script
    if script != "LATIN":
        return BY_SCRIPT.get(script, "und" if not script else script.lower())
    counts: Counter[str] = Counter()
    for word in LETTERS.findall(text[:LOOKED_AT].lower()):
        for code in WORDS.get(word, ()):
            counts[code] += 1
    best = max(counts, key=lambda name: (counts[name], name == "en"), default="en")
    if best != "en" and counts[best] > LEAST and counts[best] >= 2 * counts["en"]:
        return best
    return "en" if counts["en"] >= LEAST else "und"


def whole_text(turns: Iterable[Turn]) -> str:
    """The words of a dialogue as far as they are looked at, of every turn about as many."""
    contents = [turn["content"] for turn in turns if turn["role"] != "system"]  # often English whatever the patient's
    share = LOOKED_AT // max(1, len(contents))
    return "\n".join(content[: max(100, share)] for content in contents)
