"""Which way is good, for every metric: more, less, or neither."""

MORE = {
    "rouge1",
    "rouge2",
    "rougeL",
    "rougeLsum",
    "bertscore",
    "bleu",
    "corpus_bleu",
    "chrf",
    "meteor",
    "end_of_turn",
    "distinct_1",
    "distinct_2",
    "red_flag_recall",
    "completeness",
    "rubric",
}
LESS = {
    "loop",
    "boilerplate",
    "identity",
    "dose_contradiction",
    "contradictions",
    "over_escalation",
    "copy_8",
    "copy_13",
    "longest_copy",
    "nll",
    "nll_token_weighted",
    "bits_per_byte",
    "bits_per_byte_byte_weighted",
    "perplexity",
    "recited",
    "matched",
    "agreement",
}
VARIANTS = (
    "_f1",
    "_rescaled",
    "_precision",
    "_recall",
    "_stripped",
    "_matched",
    "_equal",
)  # good in the way of their metric
# What fine-tuning may break while likeness to the doctors rises, as a change in words: (metric, more, less).
HARMS = (
    ("loop", "loops more often", "loops less often"),
    ("identity", "invents identities more often", "invents identities less often"),
    ("dose_contradiction", "contradicts the doctor's dose more often", "contradicts the doctor's dose less often"),
    ("contradictions", "contradicts more of the physicians' statements", "contradicts fewer of them"),
    ("completeness", "says more of what it must", "leaves out more of what it must"),
    ("red_flag_recall", "names emergencies more often", "names emergencies less often"),
    ("distinct_2", "repeats itself less", "repeats itself more"),
    ("length_ratio_of_means", "answers at greater length", "answers at less length"),
    ("end_of_turn", "ends its turn more often", "ends its turn less often"),
)


def direction(metric: str) -> int:
    """1 where more is better, -1 where less is, 0 where neither is (length, reading grade) or nobody said."""
    while metric not in MORE | LESS:
        variant = next((end for end in VARIANTS if metric.endswith(end)), None)
        if variant is None:
            return 0
        metric = metric.removesuffix(variant)
    return 1 if metric in MORE else -1
