"""The scores that the source study published, to show beside a run's own. Never mixed with measured ones.

Source: Table 5 of the study "baseline against QLoRA", Mistral-7B-Instruct-v0.2 on MedDialog, as printed there. All four
rows come from ONE hand-written test case with a reference of 14 tokens, answered once by sampling without a seed. The
ROUGE values invert to whole numbers in only one way, so they are recomputed here from the counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

from medsft.evaluation.statistics.proportions import wilson
from medsft.records import Interval

SOURCE = "source study, Table 5 (Mistral-7B-Instruct-v0.2, MedDialog, n = 1, sampled once, no interval)"
N, CONFIDENCE = 1, 0.95
REFERENCE_TOKENS = 14


@dataclass(frozen=True)
class Counts:
    """What one answer has in common with the reference: hits of all n-grams, or the longest common subsequence."""

    tokens: int
    hits: int
    order: int = 1  # length of the n-grams; 1 for the subsequence

    def f_measure(self) -> float:
        """F1 of hits over the n-grams of both sides (Lin 2004): 2 hits / (answer n-grams + reference n-grams)."""
        return 2 * self.hits / (self.tokens + REFERENCE_TOKENS - 2 * (self.order - 1))

    def interval(self) -> tuple[float, float]:
        """95 % interval of the F-measure from this one answer alone: Wilson's of the share of reference n-grams hit.

        The F-measure is the recall times a factor of the two lengths. It treats the reference's n-grams as independent
        draws, which flatters: words of one sentence are not. Of other patients and other samples one case says nothing.
        """
        grams = REFERENCE_TOKENS - self.order + 1
        low, high = wilson(self.hits, grams, CONFIDENCE)
        scale = self.f_measure() / (self.hits / grams)
        return low * scale, min(1.0, high * scale)


@dataclass(frozen=True)
class PublishedScore:
    """One row of the study's Table 5; `metric` is this project's name of it. `counts`: baseline's, fine-tuned's."""

    metric: str
    label: str
    baseline: float
    fine_tuned: float
    remark: str
    counts: tuple[Counts, Counts] | None = None


TABLE_5 = (
    PublishedScore("rouge1", "ROUGE-1", 0.1017, 0.1217, "6 against 7 matching words", (Counts(104, 6), Counts(101, 7))),
    PublishedScore(
        "rouge2", "ROUGE-2", 0.0172, 0.0354, "1 against 2 matching word pairs", (Counts(104, 1, 2), Counts(101, 2, 2))
    ),
    PublishedScore(
        "rougeL", "ROUGE-L", 0.0678, 0.1043, "common sequence of 4 against 6 words", (Counts(104, 4), Counts(101, 6))
    ),
    PublishedScore("bertscore_f1", "BERTScore F1", 0.7611, 0.7433, "distilbert-base-uncased, not rescaled"),
)

# What the study's own notebook shows about how far these numbers move by chance.
NOISE = (
    "The study sampled its answers anew for this table: the baseline answer printed in its notebook scores 0.0690 on "
    "ROUGE-1 where the table says 0.1017, a larger gap than the reported gain of 0.0200."
)
MEANING = (
    "One case allows no interval over patients, and a paired test on one case cannot give p below 1: swapping the two "
    "answers is as likely as not. What it allows is an interval over the 14 words of its own reference; every pair of "
    "these overlaps, so nothing was shown, in either direction. '+105.3 %' on ROUGE-2 is one word pair becoming two."
)


class Recomputed(Interval):
    """A published value from its counts, with the interval of one answer."""

    hits: int
    tokens: int


class StudyRow(TypedDict):
    """One metric of Table 5 beside this run's arms.

    `recomputed`: baseline's and fine-tuned's; None for BERTScore, which leaves no counts.
    """

    metric: str
    label: str
    published_baseline: float
    published_finetuned: float
    published_n: int
    recomputed: list[Recomputed] | None
    remark: str
    ours: dict[str, Interval]


def study_table(ours: Mapping[str, Mapping[str, Interval]]) -> list[StudyRow]:
    """Table 5 beside this run, one row a metric; `ours` are the metrics of each arm."""
    return [
        {
            "metric": row.metric,
            "label": row.label,
            "published_baseline": row.baseline,
            "published_finetuned": row.fine_tuned,
            "published_n": N,
            "recomputed": [_recomputed(counts) for counts in row.counts] if row.counts else None,
            "remark": row.remark,
            "ours": {arm: metrics[row.metric] for arm, metrics in ours.items() if row.metric in metrics},
        }
        for row in TABLE_5
    ]


def _recomputed(counts: Counts) -> Recomputed:
    low, high = counts.interval()
    return {"mean": counts.f_measure(), "low": low, "high": high, "n": N, "hits": counts.hits, "tokens": counts.tokens}
