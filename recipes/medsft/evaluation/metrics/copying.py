"""How much of an answer is copied word for word from the training answers.

Real answers share word sequences with one another too. Compare with the control, other doctors' held-out answers.
Boilerplate is removed first, because everybody repeats it.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from tqdm import tqdm

from medsft.evaluation.metrics.behaviour import ngrams, without_boilerplate, words

SHORT, LONG = 8, 13  # words; GPT-3's authors looked for contamination with 13
Gram = tuple[str, ...]
Positions = dict[Gram, set[tuple[int, int]]]


def copying(predictions: Sequence[str], training_answers: Iterable[str]) -> dict[str, list[float]]:
    """`copy_8` and `copy_13`: share of the answer's 8- and 13-grams of words that a training answer contains.

    `longest_copy`: words of the longest copied run, 0 below 8. An answer of fewer words than n has share 0.
    """
    answers = [words(without_boilerplate(text)) for text in predictions]
    positions = find_positions({gram for answer in answers for gram in ngrams(answer, SHORT)}, training_answers)
    runs = [longest_runs(answer, positions) for answer in answers]
    return {
        f"copy_{SHORT}": [_share(run, SHORT) for run in runs],
        f"copy_{LONG}": [_share(run, LONG) for run in runs],
        "longest_copy": [float(max(run, default=0)) for run in runs],
    }


def find_positions(wanted: set[Gram], training_answers: Iterable[str]) -> Positions:
    """For each wanted 8-gram in the training answers its positions: (answer, position of its first word)."""
    positions: Positions = defaultdict(set)
    for number, text in enumerate(tqdm(training_answers, desc="looking for copies", delay=2)):
        for position, gram in enumerate(ngrams(words(without_boilerplate(text)), SHORT)):
            if gram in wanted:
                positions[gram].add((number, position))
    return positions


def longest_runs(answer: Sequence[str], positions: Positions) -> list[int]:
    """For each 8-gram of the answer the length in words of the longest copied run that ends with it; 0 if none does."""
    lengths: list[int] = []
    before: dict[tuple[int, int], int] = {}
    for gram in ngrams(answer, SHORT):
        here = {(row, at): before.get((row, at - 1), SHORT - 1) + 1 for row, at in positions.get(gram, ())}
        lengths.append(max(here.values(), default=0))
        before = here
    return lengths


def _share(run_lengths: list[int], n: int) -> float:
    """Share of n-grams that are copied: those that end a run of n words or more."""
    total = len(run_lengths) - (n - SHORT)
    return sum(length >= n for length in run_lengths) / total if total > 0 else 0.0
