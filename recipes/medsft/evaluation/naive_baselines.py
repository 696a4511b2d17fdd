"""Naive baselines: answers made without a model, which a trained model has to beat before a gain means anything.

A constant sentence without content reached ROUGE-2 0.045 and ROUGE-L 0.154 on 500 rows of HealthCareMagic, more than
many published models, so every table shows the naive baselines beside the arms. They are held to the arms' terms: they
read the training rows that an arm saw and no held-out answer, and stop where an arm would have been stopped. Whole
answers of the whole corpus instead of 48 rows and 96 tokens raised ROUGE-1 of 'nearest' from 0.228 to 0.304.
"""

import math
import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from tqdm import tqdm

from medsft.data.split_files import load_split
from medsft.errors import UserError
from medsft.evaluation.metrics.conversation import patient_text
from medsft.files import read_json
from medsft.models import loading
from medsft.records import Answer, Json, Question, TrainRecord, Turn
from medsft.result_records import FloorTerms

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

REMEDY = "run prepare_data.py with the same study_dir"
RETRIEVAL = "nearest_full_corpus"
CONSTANT = (
    "Thank you for your question. I understand that this worries you. Please see a doctor who can examine you and"
    " advise you on what to do next. I hope you feel better soon."
)


class Pairs(NamedTuple):
    """Questions and answers of training rows."""

    questions: list[str]
    answers: list[str]


def training_file(study: Path) -> Path:
    """The study's training split, where 'nearest' looks for its answers. Raises UserError without it."""
    path = study / "data" / "train.parquet"
    if not path.is_file():
        raise UserError(f"{path}: no such file; the naive baseline 'nearest' takes its answers from it; {REMEDY}")
    return path


def terms(study: Path, arms: Sequence[str], trained: Mapping[str, TrainRecord]) -> FloorTerms:
    """The terms of the arms: training rows and new tokens at most, and whose tokenizer counts them.

    Where arms differ, the most generous counts. None where no arm was trained, or no generation.json says.
    """
    rows = [record.get("comparable", {}).get("train_rows") for record in trained.values()]
    asked: dict[str, Json] = {}
    for arm in arms:
        record = study / arm / "generation.json"
        if record.is_file() and (made := read_json(record)).get("settings", {}).get("max_new_tokens"):
            asked[arm] = made
    longest = max(asked, key=lambda arm: asked[arm]["settings"]["max_new_tokens"], default=None)
    return {
        "train_rows": max((int(count) for count in rows if count), default=None),
        "max_new_tokens": asked[longest]["settings"]["max_new_tokens"] if longest else None,
        "tokenizer": asked[longest].get("base_model") if longest else None,
    }


def answer_all(
    test_rows: Sequence[Question], pairs: Pairs, of_corpus: Pairs, allowed: FloorTerms, seed: int
) -> tuple[dict[str, list[Answer]], list[Answer]]:
    """The test rows as each naive baseline answers them, and as retrieval from the whole corpus does.

    constant: one sentence; shuffled: the training answer to another patient; echo: the patient's last message; nearest:
    the training answer to the most similar question. `pairs` are the rows an arm saw. Retrieval gives whole answers of
    `of_corpus`.
    """
    asked = [asked_text(row["messages"]) for row in test_rows]
    drawn = np.random.default_rng(seed).permutation(len(pairs.answers))
    texts = {
        "constant": [CONSTANT] * len(test_rows),
        "shuffled": [pairs.answers[drawn[at % len(drawn)]] for at in range(len(test_rows))],
        "echo": [patient_text(row["messages"]) for row in test_rows],
        "nearest": [pairs.answers[at] for [at] in nearest_rows(asked, pairs.questions)],
    }
    limit, tokenizer = allowed["max_new_tokens"], None
    if limit and allowed["tokenizer"]:
        tokenizer = loading.load_tokenizer(allowed["tokenizer"])
    naive = {
        name: [answered(row, *within(tokenizer, text, limit)) for row, text in zip(test_rows, made, strict=True)]
        for name, made in texts.items()
    }
    found = nearest_rows(asked, of_corpus.questions)
    return naive, [answered(row, of_corpus.answers[at]) for row, [at] in zip(test_rows, found, strict=True)]


def within(tokenizer: "PreTrainedTokenizerBase | None", text: str, limit: int | None) -> tuple[str, bool]:
    """The text as far as `limit` new tokens reach, and whether it ended by itself.

    The end of a turn takes a token too, so a text of exactly `limit` tokens was cut. Without a limit it is whole.
    """
    if tokenizer is None or limit is None:
        return text, True
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if len(ids) < limit:
        return text, True
    return str(tokenizer.decode(ids[:limit], clean_up_tokenization_spaces=False)).strip(), False


def answered(row: Question, prediction: str, stopped: bool = True) -> Answer:
    """The test row with this prediction, and whether it ended by itself."""
    return {**row, "prediction": prediction, "stopped": stopped}


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


def nearest_rows(queries: Sequence[str], documents: Sequence[str], most: int = 1) -> list[list[int]]:
    """For each query the indices of the `most` documents with the largest TF-IDF cosine, nearest first.

    Weights are count * (ln((1 + N) / (1 + document frequency)) + 1) over N documents, scaled to length 1,
    as scikit-learn's; that is installed for training the safety classifiers only, and a test holds the two together.
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
    best: list[list[int]] = []
    for query in tqdm(queries, desc="nearest answers", delay=1):
        cosine = np.zeros(len(documents))
        for word, weight in _tf_idf(query, idf).items():
            cosine[np.asarray(rows[word])] += weight * np.asarray(weights[word])
        best.append(np.argsort(-cosine, kind="stable")[:most].tolist())
    return best


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _tf_idf(text: str, idf: dict[str, float]) -> dict[str, float]:
    vector = {word: count * idf[word] for word, count in Counter(_words(text)).items() if word in idf}
    length = math.sqrt(sum(weight * weight for weight in vector.values()))
    return {word: weight / length for word, weight in vector.items()}


def read_training_pairs(study: Path, limit: int | None = None) -> Pairs:
    """All turns before the doctor's last answer in each training row, and that answer; of the first `limit` rows.

    Training reads the first rows of the shuffled split too (max_train_rows). Raises UserError where the study's
    training split is missing, damaged, or without a doctor's answer.
    """
    path, rows = training_file(study), load_split(str(study), "train")
    if "messages" not in rows.column_names:
        raise UserError(f"{path}: no column 'messages'; {REMEDY}")
    dialogues = list(rows["messages"])[:limit]
    dialogues = [turns for turns in dialogues if len(turns) > 1 and turns[-1]["role"] == "assistant"]
    if not dialogues:
        raise UserError(f"{path}: field 'messages': no row ends with a doctor's answer; {REMEDY}")
    return Pairs([asked_text(turns[:-1]) for turns in dialogues], [turns[-1]["content"] for turns in dialogues])


def asked_text(turns: Sequence[Turn]) -> str:
    """The turns as one text, by which questions are compared."""
    return "\n".join(turn["content"] for turn in turns)
