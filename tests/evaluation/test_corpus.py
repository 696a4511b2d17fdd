"""Metrics of a whole system: sacrebleu's own corpus BLEU, and the ratio of mean lengths, with intervals that cover."""

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from medsft.evaluation import likelihood
from medsft.evaluation.metrics import corpus, overlap
from medsft.evaluation.statistics.intervals import Resampling

TEXT = "rest the knee and put some ice on it for two days then walk a little each morning until the pain goes"
WORDS = TEXT.split()
RESAMPLING = Resampling(999, 0.95, 0)


def answers(pairs):
    return [{"group": f"g{n}", "prediction": p, "reference": r} for n, (p, r) in enumerate(pairs)]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(*[st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)] * 2), min_size=1, max_size=12))
def test_corpus_bleu_is_sacrebleus(pairs):
    predictions, references = zip(*pairs, strict=True)
    found = corpus.corpus_metrics(answers(pairs), RESAMPLING)["corpus_bleu"]
    assert found["mean"] == pytest.approx(sacrebleu.corpus_bleu(predictions, [references]).score, abs=1e-9)
    assert found["low"] is None and "match in" in found["no_interval"]


def test_corpus_bleu_is_not_the_mean_of_sentences():
    long, short = " ".join(WORDS), "rest it"
    pairs = [(long, long), ("ice", short)] * 6
    found = corpus.corpus_metrics(answers(pairs), RESAMPLING)["corpus_bleu"]
    mean = sum(overlap.bleu([p for p, _ in pairs], [[r] for _, r in pairs])) / len(pairs)
    assert found["mean"] > 90 and mean < 55


def test_the_ratio_of_means_is_not_led_by_one_short_reference():
    pairs = [("a b c d", "a b c d")] * 5 + [("a b c", "a b c d")] * 3 + [("a b c d e", "a b c d")] * 3
    pairs.append(("a b c d e f g h i j k l m n o p", "a b"))
    found = corpus.corpus_metrics(answers(pairs), RESAMPLING)["length_ratio_of_means"]
    assert found["mean"] == pytest.approx(60 / 46)  # the mean of ratios is 19 / 12
    assert found["low"] < found["mean"] < found["high"]


@pytest.mark.slow
def test_the_interval_of_corpus_bleu_covers():
    """200 studies of 25 groups; the truth is that of the 5,000 answers they are drawn from, half of each copied."""
    generator = np.random.default_rng(5)
    references = [generator.choice(WORDS, generator.integers(8, 20)) for _ in range(5_000)]
    halves = [[*r[: len(r) // 2], *generator.choice(WORDS, len(r) - len(r) // 2)] for r in references]
    counts = corpus.bleu_counts([" ".join(words) for words in halves], [" ".join(words) for words in references])
    truth, covered = corpus.bleu_of_counts(counts.sum(axis=0)), 0
    for _ in range(200):
        found = corpus.corpus_bleu(counts[generator.integers(0, len(counts), 75)], [n // 3 for n in range(75)], 0.95)
        covered += found["low"] <= truth <= found["high"]
    assert 0.9 <= covered / 200 <= 0.99


def test_weighted_likelihood_counts_tokens_and_columns_count_answers():
    nats = [1.5, 2.5] * 5 + [2.0]
    rows = [{"id": n, "group": n, "nll": value, "tokens": 1, "bytes": 4} for n, value in enumerate(nats)]
    rows.append({"id": 11, "group": 11, "nll": 29.0, "tokens": 29, "bytes": 29})
    found = likelihood.weighted(rows, RESAMPLING)
    assert found["nll_token_weighted"]["mean"] == pytest.approx((22 + 29) / 40)
    assert found["perplexity"]["mean"] == pytest.approx(np.exp(51 / 40))
    assert found["perplexity"]["low"] == pytest.approx(np.exp(found["nll_token_weighted"]["low"]))
    assert found["bits_per_byte_byte_weighted"]["mean"] == pytest.approx(51 / np.log(2) / 73)
    each = likelihood.columns(rows)["nll"].values()
    assert sum(each) / 12 == pytest.approx((22 + 1) / 12)  # eleven answers of one token outweigh the long one
