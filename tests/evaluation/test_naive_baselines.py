"""Naive baselines and ceiling: their answers, by hand and by brute force."""

import math

from hypothesis import given
from hypothesis import strategies as st

from medsft.evaluation import naive_baselines


@given(st.integers(2, 60), st.integers(0, 2**31))
def test_no_row_keeps_its_own_answer_when_shuffled(size, seed):
    partner = naive_baselines.derangement(size, seed)
    assert sorted(partner) == list(range(size))
    assert all(other != own for own, other in enumerate(partner))
    assert partner == naive_baselines.derangement(size, seed)


def test_nearest_ignores_case_and_takes_the_first_row_where_nothing_matches():
    documents = ["I have a cough and a fever and I am worried", "psoriasis on my elbow", "I have a rash, I am worried"]
    queries = ["my psoriasis", "COUGH", "nothing known", ""]
    assert naive_baselines.nearest_rows(queries, documents) == [1, 0, 0, 0]


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
    assert naive_baselines.nearest_rows(queries, documents) == expected


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
