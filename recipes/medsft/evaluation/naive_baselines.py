"""Naive baselines: answers made without a model, which a trained model has to beat before a gain means anything.

A constant sentence without content reached ROUGE-2 0.045 and ROUGE-L 0.154 on 500 rows of HealthCareMagic, more than
many published models, so every table shows the naive baselines beside the arms.
"""

import math
import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from medsft.data.split_files import load_split
from medsft.errors import UserError
from medsft.records import Answer, Question, Turn

Pairs = tuple[list[str], list[str]]  # questions and answers of the training rows
REMEDY = "run prepare_data.py with the same study_dir"
CONSTANT = (
    "Thank you for your question. I understand that this worries you. Please see a doctor who can examine you and"
    " advise you on what to do next. I hope you feel better soon."
)


def training_file(study: Path) -> Path:
    """The study's training split, where 'nearest' looks for its answers. Raises UserError without it."""
    path = study / "data" / "train.parquet"
    if not path.is_file():
        raise UserError(f"{path}: no such file; the naive baseline 'nearest' takes its answers from it; {REMEDY}")
    return path


def predictions(test_rows: Sequence[Question], pairs: Pairs, seed: int) -> dict[str, list[str]]:
    """One prediction per test row by each naive baseline.

    constant: one sentence; shuffled: the reference of another row; echo: the prompt; nearest: the answer to the most
    similar question of the training `pairs`.
    """
    questions, answers = pairs
    return {
        "constant": [CONSTANT] * len(test_rows),
        "shuffled": [test_rows[other]["reference"] for other in derangement(len(test_rows), seed)],
        "echo": [row["prompt"] for row in test_rows],
        "nearest": [answers[at] for at in nearest_rows([_asked(row["messages"]) for row in test_rows], questions)],
    }


def answered(row: Question, prediction: str) -> Answer:
    """The test row with this prediction, which counts as a turn that was ended."""
    return {**row, "prediction": prediction, "stopped": True}


def doctors_against_each_other(test_rows: Sequence[Question]) -> list[Answer]:
    """The ceiling: each test row that another doctor answered too, with that doctor's answer as the prediction.

    Rows have the same question where the patients wrote the same words, ignoring case and spaces. Empty where no
    question has two different answers.
    """
    same: dict[str, list[Question]] = defaultdict(list)
    for row in test_rows:
        same[" ".join(row["prompt"].lower().split())].append(row)
    found = []
    for rows in same.values():
        unique = list({row["reference"]: row for row in rows}.values())
        for row, other in zip(unique, unique[1:] + unique[:1], strict=True):
            if len(unique) > 1:
                found.append(answered(row, other["reference"]))
    return found


def derangement(size: int, seed: int) -> list[int]:
    """A random permutation in one cycle: no element keeps its position, as long as there are two."""
    order = np.random.default_rng(seed).permutation(size)
    partner = np.empty(size, dtype=int)
    partner[order] = np.roll(order, -1)
    return partner.tolist()


def nearest_rows(queries: Sequence[str], documents: Sequence[str]) -> list[int]:
    """For each query the index of the document with the largest TF-IDF cosine (the first of several).

    Weights are count * (ln((1 + N) / (1 + document frequency)) + 1) over N documents, scaled to length 1.
    """
    frequency = Counter(word for document in documents for word in set(_words(document)))
    idf = {word: math.log((1 + len(documents)) / (1 + count)) + 1 for word, count in frequency.items()}
    wanted = {word for query in queries for word in _words(query)}
    rows: dict[str, array[int]] = defaultdict(lambda: array("q"))
    weights: dict[str, array[float]] = defaultdict(lambda: array("d"))
    for row, document in enumerate(tqdm(documents, desc="indexing answers", delay=1)):
        vector = _tf_idf(document, idf)
        for word in vector.keys() & wanted:
            rows[word].append(row)
            weights[word].append(vector[word])
    best = []
    for query in tqdm(queries, desc="nearest answers", delay=1):
        cosine = np.zeros(len(documents))
        for word, weight in _tf_idf(query, idf).items():
            cosine[np.asarray(rows[word])] += weight * np.asarray(weights[word])
        best.append(int(cosine.argmax()))
    return best


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _tf_idf(text: str, idf: dict[str, float]) -> dict[str, float]:
    vector = {word: count * idf[word] for word, count in Counter(_words(text)).items() if word in idf}
    length = math.sqrt(sum(weight * weight for weight in vector.values()))
    return {word: weight / length for word, weight in vector.items()}


def read_training_pairs(study: Path) -> Pairs:
    """All turns before the doctor's last answer in each training row, and that answer.

    Raises UserError where the study's training split is missing, damaged, or without a doctor's answer.
    """
    path, rows = training_file(study), load_split(str(study), "train")
    if "messages" not in rows.column_names:
        raise UserError(f"{path}: no column 'messages'; {REMEDY}")
    dialogues = list(rows["messages"])
    dialogues = [turns for turns in dialogues if len(turns) > 1 and turns[-1]["role"] == "assistant"]
    if not dialogues:
        raise UserError(f"{path}: field 'messages': no row ends with a doctor's answer; {REMEDY}")
    return [_asked(turns[:-1]) for turns in dialogues], [turns[-1]["content"] for turns in dialogues]


def _asked(turns: Sequence[Turn]) -> str:
    return "\n".join(turn["content"] for turn in turns)
