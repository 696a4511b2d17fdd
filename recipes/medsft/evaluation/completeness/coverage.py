"""How much of a statement an answer covers, by MiniLM's token vectors: what the offline reading is computed from.

A statement's token counts as covered by the most similar token of the answer (as in BERTScore's recall). The mean hides
the one word that matters, so the least covered quarter of the tokens is taken.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medsft.data.rules.sentences import sentences
from medsft.evaluation.metrics import bertscore

if TYPE_CHECKING:
    from nltk.stem.porter import PorterStemmer

    from medsft.evaluation.metrics.bertscore import Encoder

NAMES = ("least covered quarter", "new words found", "log of the statement's tokens")
NEGATION = re.compile(r"\b(?:no|not|never|without|cannot|neither|nor|none|nothing|avoid|unlikely|\w+n[’']t)\b", re.I)
WORD = re.compile(r"[a-z0-9]+(?:\.[0-9]+)?")
FUNCTION_WORDS = """
a an the of to in on at for and or is are be been was were by with as it its that this these those from can may will
should you your they not no if than then so such also more most other any some have has had do does
"""
SAYS_LITTLE = frozenset(FUNCTION_WORDS.split())
BATCH = 16  # texts encoded at once


class Pair(NamedTuple):
    """A statement, the answer that should say it, and the question, whose words are no news in an answer."""

    question: str
    answer: str
    statement: str


class Coverage(NamedTuple):
    """The numbers of NAMES for each pair, shape (pairs, 3), and whether the best sentence says the opposite.

    `negated`: the sentence that covers the statement best has a negation too many or too few.
    """

    features: NDArray[np.float64]
    negated: NDArray[np.bool_]


def coverage(pairs: Sequence[Pair], encoder: "Encoder") -> Coverage:
    """The coverage of every pair; an answer without words covers nothing."""
    import torch

    parts = {pair.answer: _sentences(pair.answer) for pair in pairs}
    texts = {bertscore.encodable(pair.statement) for pair in pairs} | {text for part in parts.values() for text in part}
    texts.discard("")
    with torch.inference_mode():
        encoded = bertscore.token_vectors(encoder, texts, BATCH)
        vectors = {text: torch.nn.functional.normalize(found[0][1:-1].float()) for text, found in encoded.items()}
    rows, negated = [], []
    for pair in pairs:
        statement = vectors.get(bertscore.encodable(pair.statement), torch.empty(0, 0))
        spoken = [text for text in parts[pair.answer] if len(vectors[text])]
        each = [(statement @ vectors[text].T).amax(1) for text in spoken] if len(statement) else []
        if not each:
            rows.append((0.0, 0.0, 0.0))
            negated.append(False)
            continue
        best = max(range(len(each)), key=lambda at: float(each[at].mean()))
        covered = torch.stack(each).amax(0).sort().values
        least = float(covered[: max(1, len(covered) // 4)].mean())
        rows.append((least, new_words_found(pair), float(np.log(len(statement)))))
        negated.append(_negations(pair.statement) % 2 != _negations(spoken[best]) % 2)
    return Coverage(np.array(rows, dtype=float).reshape(-1, len(NAMES)), np.array(negated, dtype=bool))


def new_words_found(pair: Pair) -> float:
    """Share of the statement's stems that are not the question's and stand in the answer; 1 where it has none."""
    new = stems(pair.statement) - stems(pair.question)
    return len(new & stems(pair.answer)) / len(new) if new else 1.0


@lru_cache(maxsize=10_000)
def stems(text: str) -> frozenset[str]:
    """The stems of a text's content words, numbers included."""
    words = {word for word in WORD.findall(text.lower()) if word not in SAYS_LITTLE and len(word) > 1}
    return frozenset(_porter().stem(word) for word in words)


def _sentences(text: str) -> list[str]:
    return [found for sentence in sentences(bertscore.encodable(text)) if (found := sentence.strip())]


def _negations(text: str) -> int:
    return len(NEGATION.findall(text))


@lru_cache(maxsize=1)
def _porter() -> "PorterStemmer":
    from nltk.stem.porter import PorterStemmer

    return PorterStemmer()
