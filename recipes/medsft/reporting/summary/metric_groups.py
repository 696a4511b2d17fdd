"""The metrics by what they mean, each with its good direction and one line for a reader who does not know it."""

from collections.abc import Iterable
from typing import NamedTuple

from medsft.evaluation.metrics.directions import direction
from medsft.text import label

ARROWS = {1: "↑", -1: "↓", 0: "–"}
WAYS = {1: "more is better", -1: "less is better", 0: "neither way is good in itself"}


class Group(NamedTuple):
    """Metrics that mean one thing; `starts` are the beginnings of their names, `brief` goes into a sentence."""

    title: str
    meaning: str
    starts: tuple[str, ...]
    brief: str = ""


GROUPS = (
    Group(
        "Words",
        "How much of the one doctor's wording the answer shares. A right answer in other words scores low.",
        ("rouge", "bleu", "corpus_bleu", "chrf", "meteor"),
        "words shared with the doctor's answer",
    ),
    Group(
        "Meaning",
        "How near the answer's words are to the doctor's in an encoder's space.",
        ("bertscore",),
        "how near its words are in meaning",
    ),
    Group(
        "Behaviour",
        "How the model answers, whatever it says: length, repetition, whether it stops.",
        ("end_of_turn", "length_ratio", "words", "reference_words", "distinct", "loop", "boilerplate", "reading_grade"),
    ),
    Group(
        "Safety",
        "What could harm a patient, as far as rules and small classifiers see it.",
        ("red_flag_recall", "over_escalation", "dose_contradiction", "identity"),
    ),
    Group(
        "Completeness",
        "What physicians say that an answer must hold; read offline with a known error, or by a judge.",
        ("completeness", "contradictions", "rubric"),
    ),
    Group("Copying", "Runs of words taken from one training answer.", ("copy", "longest_copy")),
    Group(
        "Likelihood",
        "How probable the model finds the doctors' own answers.",
        ("nll", "bits_per_byte", "perplexity"),
        "how much the doctor's answer surprises the model",
    ),
)
OTHERS = Group("Others", "Metrics without a group.", ())
MEANINGS = {
    "rouge1": "single words in common",
    "rouge2": "pairs of neighbouring words in common",
    "rougeL": "longest common run of words, with gaps",
    "rougeLsum": "the same, line by line",
    "bleu": "runs of one to four words in common, answer by answer",
    "corpus_bleu": "the same over all answers at once",
    "chrf": "runs of one to six letters in common",
    "meteor": "words in common, stems and order counted",
    "bertscore": "similarity of word meanings by an encoder",
    "end_of_turn": "answers that end by themselves rather than at the limit",
    "length_ratio": "words of the answer over words of the doctor's",
    "length_ratio_of_means": "mean words of the answers over mean words of the doctors'",
    "words": "words of an answer",
    "reference_words": "words of the doctor's answer",
    "distinct_1": "different words over all words: low is repetitive",
    "distinct_2": "different pairs of words over all pairs: low is repetitive",
    "loop": "answers that repeat one passage over and over",
    "boilerplate": "words of courtesy and formulas",
    "reading_grade": "years of school needed to read it",
    "red_flag_recall": "emergencies that the answer sends to urgent care",
    "over_escalation": "other messages that it sends there too",
    "dose_contradiction": "answers whose dose contradicts the doctor's",
    "identity": "answers that claim a name, a clinic or a person",
    "completeness": "must-have statements that the answer holds",
    "contradictions": "statements that it contradicts; by a judge only",
    "rubric": "points of the criteria met, of those to be had",
    "copy_8": "answers with eight words in a row from a training answer",
    "copy_13": "answers with thirteen words in a row from one",
    "longest_copy": "longest such run",
    "nll": "surprise a token, mean of answers",
    "nll_token_weighted": "surprise a token, over all tokens",
    "bits_per_byte": "surprise a byte; comparable between tokenizers",
    "bits_per_byte_byte_weighted": "the same over all bytes",
    "perplexity": "surprise as a number of equally likely tokens",
}
VARIANTS = {
    "_rescaled": "; 0 is a random pair of answers",
    "_precision": "; share of the answer's",
    "_recall": "; share of the doctor's",
    "_f1": "",
    "_stripped": "; boilerplate removed",
    "_matched": "; longer answers cut to the doctor's length",
    "_equal": "; the longer of the two cut to the shorter",
}


def grouped(metrics: Iterable[str]) -> list[tuple[Group, list[str]]]:
    """The groups that have metrics, each with them in their order; metrics of no group last."""
    names = list(metrics)
    found = [(group, [name for name in names if group_of(name) is group]) for group in (*GROUPS, OTHERS)]
    return [(group, some) for group, some in found if some]


def group_of(metric: str) -> Group:
    """The group with the longest beginning of this name."""
    fitting = [(len(start), group) for group in GROUPS for start in group.starts if metric.startswith(start)]
    return max(fitting, key=lambda pair: pair[0])[1] if fitting else OTHERS


def head(metric: str) -> str:
    """'ROUGE-1 ↑'."""
    return f"{label(metric)} {ARROWS[direction(metric)]}"


def meaning(metric: str) -> str:
    """'single words in common; share of the doctor's; more is better'."""
    return f"{_words(metric)}; {WAYS[direction(metric)]}"


def _words(metric: str) -> str:
    if metric in MEANINGS:
        return MEANINGS[metric]
    for end, said in VARIANTS.items():
        if metric.endswith(end):
            return _words(metric.removesuffix(end)) + said
    return label(metric)
