"""Form of an answer: end of turn, length, loops, boilerplate, invented identities, readability."""

import re
from collections.abc import Sequence
from functools import lru_cache

from medsft.data.rules.courtesy import COURTESY_RULES
from medsft.data.rules.markup import plain_spaces
from medsft.data.rules.sentences import sentences
from medsft.evaluation.metrics import identities
from medsft.evaluation.metrics.conversation import Prompt
from medsft.evaluation.metrics.scripts import spaced

RATES = ("end_of_turn", "loop", "boilerplate", "identity")  # 0 or 1 for each answer
# Sentences an instruct model opens or closes with, whatever it was asked.
DISCLAIMER = re.compile(
    r"\bas an? (?:ai|artificial intelligence|(?:large )?language model)\b|\bi(?:'m| am) (?:just |"
    r"only )?an? (?:ai|artificial)"
    r"|\bi(?:'m| am) not an? (?:doctor|physician|medical (?:doctor|professional|expert)|healthcare professional)"
    r"|\bnot a substitute for (?:\w+ )?medical advice|\bthis is not medical advice\b",
    re.IGNORECASE,
)
LONGEST_PERIOD, LEAST_REPEATED = 40, 8  # words


def end_of_turn(stopped: Sequence[bool]) -> list[float]:
    """1 where the model ended its own turn, 0 where it ran into the limit of new tokens."""
    return [float(value) for value in stopped]


def length_ratio(predictions: Sequence[str], references: Sequence[str]) -> list[float]:
    """Words of the prediction over words of the reference (an empty reference counts as one word).

    Scripts without spaces are counted by character.
    """
    ours, theirs = (lengths(side) for side in (predictions, references))
    return [p / max(1, r) for p, r in zip(ours, theirs, strict=True)]


def lengths(texts: Sequence[str]) -> list[float]:
    """Words of each text; characters of scripts without spaces."""
    return [float(len(spaced(text).split())) for text in texts]


def distinct(text: str, n: int) -> float:
    """Different n-grams over all n-grams of one text (Li et al. 2016, within an answer); 1 where there is none."""
    grams = ngrams(words(text), n)
    return len(set(grams)) / len(grams) if grams else 1.0


def loops(text: str) -> bool:
    """Whether a phrase of 1 to 40 words is repeated three times in a row, over at least eight words.

    'Take care. Take care. Take care. Take care. Take care.' is a loop, 'very, very sore' is not.
    """
    tokens = words(text)
    for period in range(1, min(LONGEST_PERIOD, len(tokens) // 3) + 1):
        run, needed = 0, max(2 * period, LEAST_REPEATED)
        for position in range(period, len(tokens)):
            run = run + 1 if tokens[position] == tokens[position - period] else 0
            if run >= needed:
                return True
    return False


@lru_cache(maxsize=50_000)
def without_boilerplate(text: str) -> str:
    """The text without sentences of courtesy, advertisement or disclaimer (the cleaning rules for doctors' turns)."""
    for rule in COURTESY_RULES.values():
        text = rule(text)
    if DISCLAIMER.search(text):
        text = "".join(part for part in sentences(text) if not DISCLAIMER.search(part))
    return plain_spaces(text)


def has_boilerplate(text: str) -> bool:
    return without_boilerplate(text) != plain_spaces(text)


def invented_identity(prediction: str, prompt: Prompt = "") -> bool:
    """Whether the answer has an identity that no turn of the prompt has."""
    return bool(identities.invented(prediction, prompt))


def coleman_liau(text: str) -> float | None:
    """School grade needed to read the text (Coleman and Liau 1975): 0.0588 L - 0.296 S - 15.8.

    L are letters and S sentences per 100 words, so no syllable dictionary is needed. None without a word.
    """
    tokens = words(text)
    if not tokens:
        return None
    letters = sum(len(token) for token in tokens)
    sentences = max(1, len(re.findall(r"[.!?]+(?=\s|\Z)", text)))
    return 0.0588 * 100 * letters / len(tokens) - 0.296 * 100 * sentences / len(tokens) - 15.8


def behaviour(
    predictions: Sequence[str], references: Sequence[str], prompts: Sequence[Prompt] | None = None
) -> dict[str, list[float | None]]:
    """All metrics above except `end_of_turn`, one list per metric. Without `prompts` every identity is invented."""
    asked = prompts if prompts is not None else [""] * len(predictions)
    return {
        "length_ratio": [*length_ratio(predictions, references)],
        "words": [*lengths(predictions)],
        "reference_words": [*lengths(references)],
        "distinct_1": [distinct(text, 1) for text in predictions],
        "distinct_2": [distinct(text, 2) for text in predictions],
        "loop": [float(loops(text)) for text in predictions],
        "boilerplate": [float(has_boilerplate(text)) for text in predictions],
        "identity": [float(invented_identity(p, q)) for p, q in zip(predictions, asked, strict=True)],
        "reading_grade": [coleman_liau(text) for text in predictions],
    }


def words(text: str) -> list[str]:
    """Lower-case words with their apostrophes; single characters of scripts without spaces."""
    return re.findall(r"[^\W_]+(?:['’][^\W_]+)*", spaced(text.lower()))


def ngrams(tokens: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [*zip(*(tokens[start:] for start in range(n)), strict=False)]
