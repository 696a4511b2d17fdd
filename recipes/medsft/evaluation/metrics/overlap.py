"""Word overlap of answers with the doctor's: ROUGE, BLEU, chrF and METEOR.

ROUGE is rouge_score with Porter stemming of words over three letters. Its own tokenizer keeps only a-z and 0-9, so that
Chinese answers were compared by their digits. Where the references are not in English, words are Unicode words and
single characters of scripts without spaces, of which only those in a-z are stemmed; English scores are rouge_score's.
BLEU and chrF are sacrebleu's. METEOR is NLTK's, with the exact and the stem stage; its third stage needs WordNet, which
would have to be downloaded, so synonyms do not match here.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from tqdm import tqdm

from medsft.evaluation.metrics import scripts
from medsft.evaluation.metrics.behaviour import lengths, without_boilerplate

if TYPE_CHECKING:
    from nltk.stem.porter import PorterStemmer
    from rouge_score.scoring import Score
    from sacrebleu.metrics.bleu import BLEUScore

ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
CORRECTED = ("rouge1", "rouge2", "rougeL")  # what is also scored without boilerplate and at the reference's length
CACHED_STEMS = 100_000  # stems, a few megabytes; stemming is most of ROUGE's time


def rouge(predictions: Sequence[str], references: Sequence[str], stem: bool = True) -> dict[str, list[float]]:
    """F-measure of each ROUGE (Lin 2004) under its own name, with `_precision` and `_recall` beside it, in 0..1."""
    scores = _rouge_scores(ROUGE, predictions, references, stem, scripts.is_english(references))
    columns = {}
    for name in ROUGE:
        columns[name] = [float(score[name].fmeasure) for score in scores]
        columns[f"{name}_precision"] = [float(score[name].precision) for score in scores]
        columns[f"{name}_recall"] = [float(score[name].recall) for score in scores]
    return columns


def corrected_sides(
    predictions: Sequence[str], references: Sequence[str]
) -> dict[str, tuple[Sequence[str], Sequence[str]]]:
    """The texts (answers, references) of the three corrected scores, which courtesy and length cannot raise.

    Stripped: boilerplate sentences are taken out of both sides. Matched: a longer answer is cut to the reference's
    number of words, so that more words cannot mean more hits. Equal: the longer side is cut to the shorter's number, so
    that fewer words cannot cost hits either.
    """
    cut = [_cut(p, lengths([r])[0]) for p, r in zip(predictions, references, strict=True)]
    shorter = [_cut(r, lengths([p])[0]) for p, r in zip(predictions, references, strict=True)]
    return {
        "stripped": ([*map(without_boilerplate, predictions)], [*map(without_boilerplate, references)]),
        "matched": (cut, references),
        "equal": (cut, shorter),
    }


def rouge_corrected(predictions: Sequence[str], references: Sequence[str]) -> dict[str, list[float]]:
    """ROUGE F-measures of `corrected_sides`, as `_stripped`, `_matched` and `_equal`."""
    columns: dict[str, list[float]] = {}
    for kind, (ours, theirs) in corrected_sides(predictions, references).items():
        scores = _rouge_scores(CORRECTED, ours, theirs, True, scripts.is_english(references))
        columns |= {f"{name}_{kind}": [float(score[name].fmeasure) for score in scores] for name in CORRECTED}
    return columns


def bleu(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """Sentence BLEU of each answer against its references, in 0..100, with the orders the answer is long enough for.

    Their mean is not corpus BLEU: it weighs short answers as much as long ones and smooths each answer's zeros.
    """
    from sacrebleu.metrics.bleu import BLEU

    scorer = BLEU(effective_order=True)
    return [scorer.sentence_score(p, r).score for p, r in zip(predictions, references, strict=True)]


def corpus_bleu(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> "tuple[BLEUScore, str]":
    """BLEU of the whole corpus (Papineni et al. 2002) as sacrebleu's BLEUScore, in 0..100, and its signature."""
    from sacrebleu.metrics.bleu import BLEU

    scorer = BLEU()
    return scorer.corpus_score([*predictions], _by_reference(references)), str(scorer.get_signature())


def chrf(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """chrF2 of each answer against its references (Popovic 2015), in 0..100."""
    from sacrebleu.metrics.chrf import CHRF

    scorer = CHRF()
    return [scorer.sentence_score(p, r).score for p, r in zip(predictions, references, strict=True)]


def corpus_chrf(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[float, str]:
    """chrF2 of the whole corpus in 0..100, and sacrebleu's signature."""
    from sacrebleu.metrics.chrf import CHRF

    scorer = CHRF()
    return scorer.corpus_score([*predictions], _by_reference(references)).score, str(scorer.get_signature())


def meteor(predictions: Sequence[str], references: Sequence[str]) -> list[float]:
    """METEOR (Banerjee and Lavie 2005; alpha 0.9, beta 3, gamma 0.5) of exact and stem matches, in 0..1."""
    from nltk.tokenize import wordpunct_tokenize
    from nltk.translate.meteor_score import single_meteor_score

    pairs = tqdm(zip(references, predictions, strict=True), total=len(references), desc="METEOR", delay=2)
    return [
        float(
            single_meteor_score(
                wordpunct_tokenize(reference), wordpunct_tokenize(prediction), stemmer=_Stems(), wordnet=_NoSynonyms()
            )
        )
        for reference, prediction in pairs
    ]


class _NoSynonyms:
    """Stands in for WordNet in METEOR's third stage and knows no synonyms."""

    def synsets(self, word: str) -> list[object]:
        return []


class _Stems:
    """A Porter stemmer with a cache; answers share most of their words."""

    def stem(self, word: str) -> str:
        return _stem(word)


class _Words:
    """rouge_score's own tokenizer with cached stems, or that of `scripts` for texts that are not in English."""

    def __init__(self, stem: bool, english: bool) -> None:
        self.stemmer, self.english = _Stems() if stem else None, english

    def tokenize(self, text: str) -> list[str]:
        from rouge_score.tokenize import tokenize

        if self.english:
            return tokenize(text, self.stemmer)
        found = scripts.words(text)
        if self.stemmer is None:
            return found
        return [self.stemmer.stem(word) if word.isascii() and len(word) > 3 else word for word in found]


@lru_cache(maxsize=CACHED_STEMS)
def _stem(word: str) -> str:
    return _porter().stem(word)


@lru_cache(maxsize=1)
def _porter() -> "PorterStemmer":
    from nltk.stem.porter import PorterStemmer

    return PorterStemmer()


def _rouge_scores(
    names: Sequence[str], predictions: Sequence[str], references: Sequence[str], stem: bool, english: bool
) -> "list[dict[str, Score]]":
    """The scores of each pair by name. Sentences are put on separate lines, which ROUGE-Lsum expects."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer([*names], tokenizer=_Words(stem, english))
    pairs = tqdm(zip(references, predictions, strict=True), total=len(references), desc="ROUGE", delay=2)
    return [scorer.score(_lines(reference), _lines(prediction)) for reference, prediction in pairs]


def _lines(text: str) -> str:
    return re.sub(r"(?<=[.!?])\s+|(?<=[。！？।])\s*", "\n", text)


def _cut(text: str, length: float) -> str:
    """The first words; of scripts without spaces the first characters."""
    words = int(length)
    if scripts.spaced(text) == text:
        return " ".join(text.split()[:words])
    ends = [match.end() for match in re.finditer(rf"[{scripts.UNSPACED}]|[^\s{scripts.UNSPACED}]+", text)]
    return text if len(ends) <= words else text[: ends[words - 1] if words else 0]


def _by_reference(references: Sequence[Sequence[str]]) -> list[list[str]]:
    """sacrebleu wants one list per reference number; every answer must have as many."""
    return [list(column) for column in zip(*references, strict=True)]
