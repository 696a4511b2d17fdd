"""The numbers that the source study published, to stand beside a run's own. Never mixed with measured ones.

Source: Table 5 of the study "baseline against QLoRA", Mistral-7B-Instruct-v0.2 on MedDialog, as printed there. All four
rows come from ONE hand-written test case with a reference of 14 tokens, answered once by sampling without a seed.
The ROUGE values invert to whole numbers in only one way, which is how the counts in the remarks are known.
"""

from dataclasses import dataclass
from typing import Any

SOURCE = "source study, Table 5 (Mistral-7B-Instruct-v0.2, MedDialog, n = 1, sampled once, no interval)"
N = 1


@dataclass(frozen=True)
class PublishedScore:
    """One row of the study's Table 5; `metric` is this project's name of it."""

    metric: str
    label: str
    baseline: float
    fine_tuned: float
    remark: str


TABLE_5 = (
    PublishedScore("rouge1", "ROUGE-1", 0.1017, 0.1217, "6 against 7 matching words"),
    PublishedScore("rouge2", "ROUGE-2", 0.0172, 0.0354, "1 against 2 matching word pairs"),
    PublishedScore("rougeL", "ROUGE-L", 0.0678, 0.1043, "longest common sequence of 4 against 6 words"),
    PublishedScore("bertscore_f1", "BERTScore F1", 0.7611, 0.7433, "distilbert-base-uncased, not rescaled"),
)

# What the study's own notebook shows about how far these numbers move by chance.
NOISE = (
    "The study sampled its answers anew for this table: the baseline answer printed in its notebook scores 0.0690 on "
    "ROUGE-1 where the table says 0.1017, a larger gap than the reported gain of 0.0200."
)


def study_table(ours: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Table 5 beside this run: per metric the published pair and from `ours` {arm: metrics}, {arm: interval}."""
    return [
        {
            "metric": row.metric,
            "label": row.label,
            "published_baseline": row.baseline,
            "published_finetuned": row.fine_tuned,
            "published_n": N,
            "remark": row.remark,
            "ours": {arm: metrics[row.metric] for arm, metrics in ours.items() if row.metric in metrics},
        }
        for row in TABLE_5
    ]
