"""How much of an answer stands word for word in the training answers.

Real answers share runs of words with one another too, so the number to compare with is that of the 'shuffled' floor,
whose texts are other doctors' held-out answers. Boilerplate is taken out first: everybody repeats it.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from tqdm import tqdm

from medsft.evaluation.metrics.behaviour import ngrams, without_boilerplate, words

SHORT, LONG = 8, 13  # words; 13 is the length with which GPT-3's authors looked for contamination
Gram = tuple[str, ...]
Places = dict[Gram, set[tuple[int, int]]]


def copying(predictions: Sequence[str], training_answers: Iterable[str]) -> dict[str, list[float]]:
    """`copy_8` and `copy_13`: share of the answer's 8- and 13-grams of words that stand in one training answer;
    `longest_copy`: words of the longest run that does, 0 below 8. An answer of fewer words than n has share 0.
    """
    answers = [words(without_boilerplate(text)) for text in predictions]
    places = find_places({gram for answer in answers for gram in ngrams(answer, SHORT)}, training_answers)
    runs = [longest_runs(answer, places) for answer in answers]
    return {
        f"copy_{SHORT}": [_share(run, SHORT) for run in runs],
        f"copy_{LONG}": [_share(run, LONG) for run in runs],
        "longest_copy": [float(max(run, default=0)) for run in runs],
    }


def find_places(wanted: set[Gram], training_answers: Iterable[str]) -> Places:
    """For each wanted 8-gram that occurs in the training answers its places: (answer, position of its first word)."""
    places: Places = defaultdict(set)
    for number, text in enumerate(tqdm(training_answers, desc="looking for copies", delay=2)):
        for position, gram in enumerate(ngrams(words(without_boilerplate(text)), SHORT)):
            if gram in wanted:
                places[gram].add((number, position))
    return places


def longest_runs(answer: Sequence[str], places: Places) -> list[int]:
    """For each 8-gram of the answer the words of the longest copied run that ends with it; 0 if it is not copied."""
    lengths: list[int] = []
    before: dict[tuple[int, int], int] = {}
    for gram in ngrams(answer, SHORT):
        here = {(row, at): before.get((row, at - 1), SHORT - 1) + 1 for row, at in places.get(gram, ())}
        lengths.append(max(here.values(), default=0))
        before = here
    return lengths


def _share(run_lengths: list[int], n: int) -> float:
    """A run of length L ending here means that the n-gram ending here is copied where L >= n."""
    total = len(run_lengths) - (n - SHORT)
    return sum(length >= n for length in run_lengths) / total if total > 0 else 0.0
