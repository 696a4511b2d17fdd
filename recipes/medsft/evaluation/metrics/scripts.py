"""Words of answers in any script: characters of Chinese and Japanese, which write no spaces, and Unicode words.

In English texts the words are those that splitting at blanks gives, or rouge_score's own.
"""

import re
import unicodedata
from collections.abc import Sequence

# Han with its extensions, Hiragana, Katakana; Thai, Lao, Myanmar and Khmer write no spaces either.
UNSPACED = (
    "\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
)
UNSPACED += "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
_UNSPACED = re.compile(f"[{UNSPACED}]")
_LETTER = re.compile(r"[^\W\d_]")
# English corpora have under 0.1 % of such letters, Italian and German 1 to 2 %, French and Spanish 2 to 4 %.
FOREIGN_LETTERS = 0.005


def spaced(text: str) -> str:
    """The text with blanks around each character of a script without spaces; any other text as it is."""
    return _UNSPACED.sub(r" \g<0> ", text) if _UNSPACED.search(text) else text


def foreign_letters(texts: Sequence[str]) -> float:
    """Share of letters that are not a to z in the texts; 0 without a letter."""
    letters = beyond = 0
    for text in texts:
        found = _LETTER.findall(text)
        letters += len(found)
        beyond += sum(not letter.isascii() for letter in found)
    return beyond / letters if letters else 0.0


def is_english(texts: Sequence[str]) -> bool:
    """Whether the texts can be read with the letters a to z: fewer than 0.5 % are others."""
    return foreign_letters(texts) < FOREIGN_LETTERS


def words(text: str) -> list[str]:
    """Lower-case words of letters, digits and combining marks; single characters of scripts without spaces.

    For ASCII text these are rouge_score's own words.
    """
    kept = (char if unicodedata.category(char)[0] in "LNM" else " " for char in spaced(text.lower()))
    return "".join(kept).split()


def only_digits(texts: Sequence[str]) -> float:
    """Share of texts with words in which every word that has a-z or 0-9, and so counts for rouge_score, is a number."""
    found = [re.findall(r"[a-z0-9]+", text.lower()) for text in texts if words(text)]
    return sum(all(word.isdigit() for word in part) for part in found) / len(found) if found else 0.0
