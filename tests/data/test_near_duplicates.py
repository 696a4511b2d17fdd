"""Near-duplicates, against brute force over the same words."""

import random

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus import distinct_texts, turns
from medsft.data.groups.near_duplicates import Groups, jaccard, join_near_duplicates, opening, shingles, sketch

LONG = (
    "for three weeks I have had a dull pain below the right ribs after fatty meals, it lasts an hour and then fades, "
    "I am forty one and take no medicine at all, should I have a scan of the gallbladder or wait and see"
)


def near_duplicates(texts: list[str], threshold: float) -> Groups:
    """Groups of texts, all different, by what the library finds."""
    groups = Groups(len(texts))
    sketches = numpy.frombuffer(b"".join(map(sketch, texts)), dtype=numpy.uint32).reshape(len(texts), -1)
    join_near_duplicates(groups, numpy.arange(len(texts)), sketches, texts.__getitem__, threshold)
    return groups


def brute_force(texts: list[str], threshold: float) -> Groups:
    sets = [shingles(text) for text in texts]
    truth = Groups(len(texts))
    for second in range(len(texts)):
        for first in range(second):
            if jaccard(sets[first], sets[second]) >= threshold:
                truth.join(first, second)
    return truth


@settings(max_examples=25, deadline=None)
@given(st.sets(st.text("abcdefgh", min_size=8, max_size=14), min_size=2, max_size=10))
def test_what_is_joined_is_linked_by_pairs_above_the_threshold(texts: set[str]) -> None:
    joined = [" ".join(text) for text in sorted(texts)]
    groups = near_duplicates(joined, 0.7)
    truth = brute_force(joined, 0.7)
    for first in range(len(joined)):
        for second in range(first):
            if groups.find(first) == groups.find(second):
                assert truth.find(first) == truth.find(second)


def test_no_near_duplicate_is_missed_by_brute_force() -> None:
    generator = random.Random(3)
    texts = []
    for text in distinct_texts(150):
        words = text.split()
        texts += [" ".join(words), " ".join(words[:-1] + [generator.choice(["x", "y"])])]
        texts += [" ".join(words[2:]), " ".join(words[:9] + ["z"] + words[9:])]
    texts = sorted(set(texts))
    truth, found = brute_force(texts, 0.7), near_duplicates(texts, 0.7)
    assert truth.count() <= 200 < len(texts)
    assert found.count() == truth.count()


@pytest.mark.slow
def test_a_bucket_of_thousands_of_copies_is_no_matter_of_minutes() -> None:
    copies = [f"{LONG} number {number}" for number in range(2000)]
    assert near_duplicates(copies, 0.7).count() == 1


def test_an_opening_gathers_words_until_there_are_eight() -> None:
    words = opening(turns("Hello", "What is it?", "My ear hurts a lot", "x"))
    assert words == "hello what is it my ear hurts a lot"
