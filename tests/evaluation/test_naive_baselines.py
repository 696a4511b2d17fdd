"""Naive baselines and ceiling: their answers, by hand and by brute force."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsft.evaluation import naive_baselines
from medsft.files import write_json
from medsft.models import embedded, loading


@given(st.integers(2, 60), st.integers(0, 2**31))
def test_no_row_keeps_its_own_answer_when_shuffled(size, seed):
    partner = naive_baselines.derangement(size, seed)
    assert sorted(partner) == list(range(size))
    assert all(other != own for own, other in enumerate(partner))
    assert partner == naive_baselines.derangement(size, seed)


def test_nearest_ignores_case_and_takes_the_first_row_where_nothing_matches():
    documents = ["I have a cough and a fever and I am worried", "psoriasis on my elbow", "I have a rash, I am worried"]
    queries = ["my psoriasis", "COUGH", "nothing known", ""]
    assert naive_baselines.nearest_rows(queries, documents) == [[1], [0], [0], [0]]


def test_nearest_is_the_brute_force_cosine():
    documents = ["pain in the knee", "pain in the chest and arm", "knee swollen after a fall", "the the the knee"]
    queries = ["my chest pain", "swollen knee", "fall on the arm"]
    vocabulary = sorted({word for text in documents for word in text.split()})
    idf = [math.log(5 / (1 + sum(w in d.split() for d in documents))) + 1 for w in vocabulary]

    def vector(text):
        weights = [text.split().count(w) * weight for w, weight in zip(vocabulary, idf, strict=True)]
        return [weight / math.hypot(*weights) for weight in weights]

    def cosine(query, document):
        return sum(a * b for a, b in zip(vector(query), vector(document), strict=True))

    expected = [max(range(4), key=lambda row, q=q: cosine(q, documents[row])) for q in queries]
    assert naive_baselines.nearest_rows(queries, documents) == [[row] for row in expected]


def row(number, prompt, reference):
    return {"id": number, "group": "g", "prompt": prompt, "reference": reference}


def test_the_ceiling_is_doctors_who_answered_the_same_question():
    rows = [
        row(1, "Is it flu?", "Yes."),
        row(2, "is it  FLU?", "No."),
        row(3, "Is it flu?", "Yes."),
        row(4, "Why?", "So."),
    ]
    found = naive_baselines.doctors_against_each_other(rows)
    assert sorted((r["reference"], r["prediction"]) for r in found) == [("No.", "Yes."), ("Yes.", "No.")]
    assert all(r["stopped"] for r in found)
    assert naive_baselines.doctors_against_each_other(rows[2:]) == []


def asked(number):
    turns = [{"role": "user", "content": f"Question {number} on my knee and cough"}]
    return {"id": number, "group": f"g{number}", "source": "s", "prompt": turns[0]["content"], "messages": turns} | {
        "reference": f"Held-out answer {number}."
    }


FITTING = "An answer that fits, with more words than the limit of six tokens allows."
SEEN = naive_baselines.Pairs(["my knee", "a cough"], ["Rest the knee for a week and raise it.", "Drink tea."])
CORPUS = naive_baselines.Pairs([*SEEN.questions, "Question 3 on my knee and cough"], [*SEEN.answers, FITTING])


def test_naive_baselines_read_only_what_an_arm_saw_and_retrieval_the_whole_corpus():
    terms = {"train_rows": 2, "max_new_tokens": None, "tokenizer": None}
    naive, retrieved = naive_baselines.answer_all([asked(n) for n in range(5)], SEEN, CORPUS, terms, 0)
    assert list(naive) == ["constant", "shuffled", "echo", "nearest"]
    for name in ("shuffled", "nearest"):
        assert {row["prediction"] for row in naive[name]} <= set(SEEN.answers)
    assert {row["prediction"] for row in naive["shuffled"]} == set(SEEN.answers)
    assert retrieved[3]["prediction"] == FITTING
    assert all(row["stopped"] for rows in naive.values() for row in rows)


def test_naive_baselines_are_cut_where_an_arm_would_be():
    terms = {"train_rows": 2, "max_new_tokens": 6, "tokenizer": embedded.SMOLLM2}
    naive, retrieved = naive_baselines.answer_all([asked(n) for n in range(5)], SEEN, CORPUS, terms, 0)
    tokenizer = loading.load_tokenizer(embedded.SMOLLM2)
    for row in naive["constant"]:
        assert naive_baselines.CONSTANT.startswith(row["prediction"]) and not row["stopped"]
        assert len(tokenizer(row["prediction"])["input_ids"]) <= 6
    short = [row for row in naive["shuffled"] if row["prediction"] == "Drink tea."]
    assert short and all(row["stopped"] for row in short)
    assert (retrieved[3]["prediction"], retrieved[3]["stopped"]) == (FITTING, True)
    exactly = tokenizer("Drink tea.", add_special_tokens=False)["input_ids"]
    assert naive_baselines.within(tokenizer, "Drink tea.", len(exactly)) == ("Drink tea.", False)  # no end of turn left


def test_the_terms_are_those_of_the_most_generous_arm(tmp_path):
    for arm, tokens in (("baseline", 96), ("lora", 128)):
        write_json(tmp_path / arm / "generation.json", {"base_model": arm, "settings": {"max_new_tokens": tokens}})
    trained = {"lora": {"comparable": {"train_rows": 48}}, "full": {"comparable": {"train_rows": 40}}}
    assert naive_baselines.terms(tmp_path, ["baseline", "lora", "full"], trained) == {
        "train_rows": 48, "max_new_tokens": 128, "tokenizer": "lora"
    }  # fmt: skip
    assert naive_baselines.terms(tmp_path, ["full"], {}) == {
        "train_rows": None, "max_new_tokens": None, "tokenizer": None
    }  # fmt: skip


def test_the_nearest_question_is_scikit_learns():
    text = pytest.importorskip(
        "sklearn.feature_extraction.text", reason="scikit-learn is installed for development only"
    )
    generator = random.Random(4)
    words = [f"w{number}" for number in range(60)]
    documents, queries = ([" ".join(generator.choices(words, k=12)) for _ in range(size)] for size in (80, 30))
    vectors = text.TfidfVectorizer(token_pattern=r"\w+")
    cosine = (vectors.fit_transform(documents) @ vectors.transform(queries).T).toarray()
    assert (
        naive_baselines.nearest_rows(queries, documents, 3) == (-cosine).argsort(axis=0, kind="stable")[:3].T.tolist()
    )
