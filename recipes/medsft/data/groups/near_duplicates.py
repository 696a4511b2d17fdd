"""Near-duplicates of the patient's opening words: MinHash sketches (Broder 1997; datasketch), locality-sensitive
hashing, and a check of every candidate by its true Jaccard similarity.

The bands are sorted with numpy: datasketch's own index keeps a Python set for each of 28 bands of every row, which
takes gigabytes for 250,000 rows; sorted arrays take 130 MB.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

from medsft.data.reading.dialogue import BEGINS
from medsft.records import Turn
from medsft.tokenization.truncation import UNSPACED

if TYPE_CHECKING:
    import numpy
    from datasketch import MinHash
    from numpy.typing import NDArray

# Words; in scripts that put no blanks between words each character counts as one.
WORD = re.compile(f"[{UNSPACED}]|[^\\W{UNSPACED}]+")
SHORT = 8  # words; two dialogues that both begin with 'Hello doctor' have nothing else in common
PERMUTATIONS = 128
MARGIN = 0.2  # five standard errors of a sketch's estimate (0.04 at 128 permutations); pairs below it are skipped


class Groups:
    """Union-find over row numbers."""

    def __init__(self, size: int) -> None:
        self.parent = list(range(size))

    def find(self, row: int) -> int:
        while self.parent[row] != row:
            self.parent[row] = self.parent[self.parent[row]]
            row = self.parent[row]
        return row

    def join(self, first: int, second: int) -> None:
        self.parent[self.find(first)] = self.find(second)

    def count(self) -> int:
        return sum(parent == row for row, parent in enumerate(self.parent))


def words_of(text: str) -> list[str]:
    return re.findall(r"\w+", text) if text.isascii() else WORD.findall(text)


def word_count(text: str) -> int:
    return len(text.split()) if text.isascii() else len(words_of(text))


def opening(turns: Sequence[Turn]) -> str:
    """The words of the patient's first message, and of the turns after it until there are eight."""
    first = 2 if turns and turns[0]["content"] == BEGINS else 0
    words: list[str] = []
    for turn in turns[first:]:
        words += words_of(turn["content"].lower())
        if len(words) >= SHORT:
            break
    return " ".join(words)


def shingles(text: str) -> frozenset[str]:
    """Word 3-shingles; character 5-grams of a text with fewer than eight words."""
    words = text.split()
    if len(words) >= SHORT:
        return frozenset(" ".join(words[i : i + 3]) for i in range(len(words) - 2))
    return frozenset(text[i : i + 5] for i in range(max(1, len(text) - 4)))


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    return len(first & second) / len(first | second)


def sketch(text: str) -> bytes:
    """The MinHash of a text: PERMUTATIONS unsigned 32-bit numbers."""
    numbers = empty_sketch().copy()  # drawing the permutations for each text would take longer than all the rest
    numbers.update_batch([part.encode("utf-8", "replace") for part in shingles(text)])
    return bytes(numbers.hashvalues.astype("uint32"))


@cache
def empty_sketch() -> "MinHash":
    from datasketch import MinHash
    from xxhash import xxh32_intdigest

    return MinHash(num_perm=PERMUTATIONS, seed=1, hashfunc=xxh32_intdigest)


def bands(threshold: float) -> tuple[int, int]:
    """The number of bands, and of rows in a band. Candidates start 0.15 below the threshold and favour recall: a pair
    that is missed leaks, one that is found is still checked."""
    from datasketch import MinHashLSH

    index = MinHashLSH(threshold=max(0.1, threshold - 0.15), num_perm=PERMUTATIONS, weights=(0.1, 0.9))
    return index.b, index.r


def join_near_duplicates(
    groups: Groups,
    rows: "NDArray[numpy.int64]",
    sketches: "NDArray[numpy.uint32]",
    text_of: Callable[[int], str],
    threshold: float,
) -> None:
    """Join in `groups` all rows with a Jaccard similarity of at least `threshold`.

    `rows` (n,): row numbers of openings that differ from each other; `sketches` (n, PERMUTATIONS): their MinHashes;
    `text_of` returns the opening of a row number.
    """
    import numpy
    from tqdm import tqdm

    count, width = bands(threshold)
    least = (threshold - MARGIN) * PERMUTATIONS
    index_of = {int(row): index for index, row in enumerate(rows)}
    for band in tqdm(range(count), desc="near-duplicates", unit=" bands", delay=2):
        columns = numpy.ascontiguousarray(sketches[:, band * width : (band + 1) * width])
        keys = columns.view(numpy.dtype((numpy.void, columns.itemsize * width))).ravel()
        for bucket in buckets(keys):
            members = [int(row) for row in rows[bucket]]
            for index, row in enumerate(members[:-1]):
                root = groups.find(row)
                others = [other for other in members[index + 1 :] if groups.find(other) != root]
                if not others:
                    continue
                indices = [index_of[other] for other in others]
                alike = (sketches[indices] == sketches[index_of[row]]).sum(axis=1) >= least
                for other in numpy.asarray(others)[alike]:
                    if groups.find(int(other)) != groups.find(row) and (
                        jaccard(shingles(text_of(row)), shingles(text_of(int(other)))) >= threshold
                    ):
                        groups.join(row, int(other))


def buckets(keys: "NDArray[numpy.void]") -> "Iterator[NDArray[numpy.intp]]":
    """The indices of each key that occurs more than once."""
    import numpy

    order = numpy.argsort(keys, kind="stable")
    borders = numpy.flatnonzero(keys[order][1:] != keys[order][:-1]) + 1
    starts, ends = numpy.concatenate([[0], borders]), numpy.concatenate([borders, [len(keys)]])
    for start, end in zip(starts[ends - starts > 1], ends[ends - starts > 1], strict=True):
        yield order[start:end]
