"""Metrics of a whole system that are no mean over its answers: corpus BLEU and the ratio of mean lengths.

Formula: corpus_bleu = brevity penalty * exp(mean of ln p_n), p_n the share of n-grams (1 to 4) of all answers together
    that the references have, so a long answer counts for more; length_ratio_of_means = words of all answers / words of
    all references. The mean of the answers' own ratios is larger: one reference of two words outweighs the others.
Direction: more (corpus_bleu); neither (length_ratio_of_means)
Range: 0 to 100 (corpus_bleu); 0 and up (length_ratio_of_means)
Source: Papineni et al. 2002, sacrebleu (Post 2018); Cochran 1977 for the ratio of means.
"""

from collections.abc import Sequence

import numpy as np

from medsft.evaluation.metrics.behaviour import lengths
from medsft.evaluation.statistics.intervals import Array, Groups, Resampling, jackknife_interval, ratio_interval
from medsft.records import Answer, Interval

ORDERS = 4
# On doctors' answers to others the interval covers 50 to 84 % where fewer groups share four words in a row with their
# reference, 94 % from here on (200 draws of 20 to 500 answers of a public corpus).
LEAST_MATCHING = 20


def corpus_metrics(rows: Sequence[Answer], resampling: Resampling) -> dict[str, Interval]:
    """`corpus_bleu` and `length_ratio_of_means` with intervals over groups."""
    predictions, references = [row["prediction"] for row in rows], [row["reference"] for row in rows]
    groups = [row["group"] for row in rows]
    return {
        "corpus_bleu": corpus_bleu(bleu_counts(predictions, references), groups, resampling.confidence),
        "length_ratio_of_means": ratio_interval(lengths(predictions), lengths(references), groups, resampling),
    }


def corpus_bleu(counted: Array, groups: Groups, confidence: float) -> Interval:
    """Corpus BLEU of `bleu_counts`, without an interval where too few groups have a matching 4-gram."""
    found = jackknife_interval(counted, groups, bleu_of_counts, confidence)
    matching = len({group for group, hits in zip(groups, counted[:, 1 + ORDERS], strict=True) if hits})
    if matching >= LEAST_MATCHING:
        return found
    reason = f"four words in a row match in {matching} groups, an interval takes {LEAST_MATCHING}"
    return {"mean": found["mean"], "low": None, "high": None, "no_interval": reason}


def bleu_counts(predictions: Sequence[str], references: Sequence[str]) -> Array:
    """Of each answer its words, the reference's, and matches and totals of 1- to 4-grams: shape (answers, 10)."""
    from sacrebleu.metrics.bleu import BLEU

    scorer = BLEU(effective_order=True)  # only the counts are read
    scores = [scorer.sentence_score(p, [r]) for p, r in zip(predictions, references, strict=True)]
    return np.array([[s.sys_len, s.ref_len, *s.counts, *s.totals] for s in scores], dtype=np.float64)


def bleu_of_counts(totals: Array) -> float:
    """BLEU of the summed counts, as sacrebleu computes it."""
    from sacrebleu.metrics.bleu import BLEU

    numbers = [int(value) for value in totals]
    score = BLEU.compute_bleu(
        numbers[2 : 2 + ORDERS], numbers[2 + ORDERS :], numbers[0], numbers[1], smooth_method="exp"
    )
    return float(score.score)
