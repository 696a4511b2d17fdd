"""Statements that an answer must have: omissions are named, a negation is no entailment, agreement is measured."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from conftest import run_here
from local_judge import LocalJudge, serving
from medsft.data.reading.statements import read_statements
from medsft.errors import UserError
from medsft.evaluation.completeness import calibration, coverage, matching, offline, scores, validation
from medsft.evaluation.completeness.coverage import Pair
from medsft.evaluation.metrics import bertscore
from medsft.evaluation.metrics.directions import direction
from medsft.evaluation.review import claim_judge
from medsft.evaluation.statistics.intervals import Resampling
from medsft.files import read_json, read_jsonl, write_jsonl
from medsft.models import embedded
from scored_study import make, score

LABELLED = Path(__file__).resolve().parents[3] / "shared" / "data" / "kqa_labels.jsonl"
QUESTION = "What can I do about my migraine?"
SENTENCES = [
    "Ibuprofen or naproxen taken early relieves most migraine attacks.",
    "Rest in a dark and quiet room.",
    "Propranolol taken daily prevents frequent attacks.",
    "Pain tablets on more than ten days a month cause rebound headache.",
]
STATEMENTS = [
    "Ibuprofen or naproxen relieves migraine attacks if taken early",
    "Rest in a dark and quiet room helps",
    "Daily propranolol prevents frequent migraine attacks",
    "Taking pain tablets on more than ten days a month causes rebound headache",
]


@pytest.fixture(scope="module")
def encoder():
    return bertscore.load_encoder(embedded.MINILM, None)


def answer(text, statements=tuple(STATEMENTS)):
    turns = [{"role": "user", "content": QUESTION}]
    row = {"id": text[:20] or "empty", "group": "g", "source": "s", "prompt": QUESTION, "messages": turns}
    return row | {"reference": "r", "prediction": text, "stopped": True, "statements": [*statements]}


def test_a_complete_answer_scores_1_and_each_omission_is_named(encoder, tmp_path):
    whole = answer(" ".join(SENTENCES))
    lacking = [answer(f"({n}) " + " ".join(s for m, s in enumerate(SENTENCES) if m != n)) for n in range(4)]
    rows = [whole, *lacking, answer("")]
    instrument = scores.Instrument(matching.statements_of(rows, ""), None, encoder, {})
    columns = scores.score(instrument, rows, None)
    scores.list_omissions(instrument, rows, tmp_path)
    assert columns == {"completeness": [1.0, 0.75, 0.75, 0.75, 0.75, 0.0]}
    omissions = read_jsonl(tmp_path / "omissions.jsonl")
    assert [row["omitted"] for row in omissions] == [[], *([text] for text in STATEMENTS), STATEMENTS]
    assert all(row["contradicted"] == [] and row["must_have"] == 4 for row in omissions)


@pytest.mark.parametrize(
    "said",
    [
        "Ibuprofen or naproxen taken early does not relieve migraine attacks.",
        "You should never take ibuprofen or naproxen early to relieve migraine attacks.",
        "The weather is fine today.",
    ],
)
def test_what_is_denied_or_not_said_is_not_entailed(encoder, said):
    pairs = [Pair(QUESTION, said, STATEMENTS[0]), Pair(QUESTION, SENTENCES[0], STATEMENTS[0])]
    assert offline.read(pairs, encoder) == ["Neutral", "Entailment"]


@pytest.mark.parametrize(
    ("met", "share", "rubric", "contradicted"),
    [
        (["Entailment", "Entailment", "Neutral"], 1.0, 1.0, 0.0),
        (["Entailment", "Neutral", "Neutral"], 0.5, 5 / 8, 0.0),
        (["Entailment", "Entailment", "Entailment"], 1.0, 4 / 8, 0.0),  # the last costs four points
        (["Neutral", "Contradiction", "Entailment"], 0.0, 0.0, 1.0),  # -4 of 8 is clipped
        (["abstain", "Entailment", "Neutral"], 1.0, 1.0, 0.0),
        (["abstain", "abstain", "abstain"], None, None, None),
    ],
)
def test_points_are_counted_as_healthbench_does(met, share, rubric, contradicted):
    given = [{"text": "a", "points": 5}, {"text": "b", "points": 3}, {"text": "c", "points": -4}]
    labelled = [*zip(read_statements({"statements": given}), met, strict=True)]
    assert scores.completeness(labelled) == share
    assert scores.rubric(labelled) == rubric
    assert scores.contradictions(labelled) == contradicted


def test_the_way_that_is_good_is_known():
    assert [direction(name) for name in ("completeness", "contradictions", "rubric")] == [1, -1, 1]


def test_the_fit_is_scikit_learns():
    from sklearn.linear_model import LogisticRegression

    generator = np.random.default_rng(0)
    features = generator.normal(size=(80, 3)) * [1, 5, 0.1] + 2
    entailed = (features[:, 0] + generator.normal(size=80) > 2).astype(float)
    weights = calibration.fit(features, entailed)
    scaled = (features - features.mean(0)) / features.std(0)
    theirs = LogisticRegression(tol=1e-9, max_iter=1000).fit(scaled, entailed)
    assert offline.probabilities(weights, features) == pytest.approx(theirs.predict_proba(scaled)[:, 1], abs=1e-4)


def test_no_row_is_read_by_weights_that_saw_its_question():
    """Each question is alike in itself and unlike the others: what is learned on it alone would give it away."""
    features = np.array([[n // 2, 0.0, 0.0] for n in range(8)], dtype=float)
    entailed = np.array([0, 0, 1, 1, 0, 0, 1, 1], dtype=float)
    given = coverage.Coverage(features, np.zeros(8, dtype=bool))
    found = calibration.left_out(given, entailed, [f"q{n // 2}" for n in range(8)])
    for at in range(0, 8, 2):
        kept = [n for n in range(8) if n // 2 != at // 2]
        others = coverage.Coverage(features[kept], given.negated[kept])
        weights = calibration.with_threshold(others, entailed[kept])
        part = coverage.Coverage(features[at : at + 2], given.negated[at : at + 2])
        assert found[at : at + 2] == offline.verdicts(weights, part)


def test_precision_recall_and_kappa_are_over_questions():
    rows = [
        {"question": f"q{n % 12}", "answer": "", "claim": "", "physicians": ["Entailment" if n % 3 else "Neutral"] * 3}
        for n in range(36)
    ]
    verdicts = ["Entailment" if n % 3 == 1 else "Contradiction" if n == 0 else "Neutral" for n in range(36)]
    found = validation.measure(rows, verdicts, Resampling(300, 0.95, 0), contradictions=True)
    assert (found["n"], found["questions"]) == (36, 12)
    assert found["entailed_or_not"]["share"] == pytest.approx(24 / 36)
    assert (found["entailed"]["precision"]["mean"], found["entailed"]["recall"]["mean"]) == (1.0, 0.5)
    assert found["contradicted"]["recall"] is None and found["contradicted"]["precision"]["mean"] == 0.0
    assert "undefined" in "\n".join(validation.sentences("a judge", found))


def test_the_offline_reading_on_physicians_labels_left_out():
    if not LABELLED.is_file():
        pytest.skip(f"{LABELLED} is not here")
    rows = claim_judge.read(LABELLED)
    found, how = calibration.measure_offline(rows, Resampling(300, 0.95, 0))
    assert "left out" in how
    assert found["entailed_or_not"]["kappa"] > 0.3 and found["entailed"]["precision"]["mean"] > 0.6
    assert "cannot tell a contradiction" in validation.sentences("offline reading", found)[-1]


class TellsContradiction(LocalJudge):
    """Entailment where the answer has the statement, a contradiction where it has 'not' before it."""

    def answer(self, question):
        _, said, claim = re.findall(r"<<<\n(.*?)\n>>>", question, re.DOTALL)
        if f"not {claim}" in said:
            return "VERDICT: CONTRADICTION"
        return "VERDICT: ENTAILMENT" if claim in said else "VERDICT: NEUTRAL"


def test_a_judge_is_measured_before_its_verdicts_and_they_are_scored(tmp_path):
    study = make(tmp_path / "study")
    rows = read_jsonl(study / "baseline" / "generations.jsonl")
    asked = [{"question": row["prompt"], "statements": ["tell me if it lasts", "drink tea"]} for row in rows[:8]]
    write_jsonl(tmp_path / "s.jsonl", asked)
    labels = ["Entailment", "Neutral", "Contradiction"]
    said = ["x", "y", "not x"]
    known = [
        {"question": f"q{n}", "answer": said[n % 3], "claim": "x", "physicians": [labels[n % 3]] * 3} for n in range(36)
    ]
    write_jsonl(tmp_path / "labels.jsonl", known)
    with serving(TellsContradiction) as address:
        judge = ("--judge_endpoint", address, "--judge_model", "m", "--statement_labels", tmp_path / "labels.jsonl")
        done = score(study, "--statements", tmp_path / "s.jsonl", *judge)
    assert done.returncode == 0, done.stderr
    assert "statements for 8 of 10 test rows" in done.stdout
    assert done.stdout.index("agrees with most physicians on 100%") < done.stdout.index("wrote")
    written = read_json(study / "lora" / "scores.json")
    assert written["metrics"]["completeness"] == {**written["metrics"]["completeness"], "mean": 0.5, "n": 8}
    assert written["metrics"]["contradictions"]["mean"] == 0.0
    assert written["settings"]["completeness"]["accuracy"]["contradicted"]["recall"]["mean"] == 1.0
    assert {"drink tea"} == {text for row in read_jsonl(study / "lora" / "omissions.jsonl") for text in row["omitted"]}
    explored = read_json(study / "comparison.json")["explored"]
    (paired,) = [row for row in explored if row["metric"] == "completeness"]
    assert paired["difference"] == 0.5 and paired["n"] == 8


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "q"}, "field 'statements' is missing"),
        ({"question": "q", "statements": "x"}, "field 'statements': wrong type"),
        ({"question": "q", "statements": [{"must_have": True}]}, "field 'statements': null"),
        ({"question": "q", "statements": [{"text": "x", "must_have": "no"}]}, "must have not true or false"),
        ({"question": "q", "must_have": ["x", "  "]}, "field 'must_have': empty"),
        ({"statements": ["x"]}, "field 'question' is missing"),
        ({"question": "something else", "statements": ["x"]}, "none of its 1 rows"),
        ([1], "is not an object"),
    ],
)
def test_a_bad_file_of_statements_is_refused_in_one_line(tmp_path, row, message):
    (tmp_path / "s.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(UserError, match=re.escape(message)):
        matching.statements_of([answer("yes", ())], str(tmp_path / "s.jsonl"))


def test_statements_by_id_alone_leave_other_rows_without(tmp_path):
    rows = [{**answer("yes"), "id": 1}, {**answer("no"), "id": 2}]
    (tmp_path / "s.jsonl").write_text(json.dumps({"id": 1, "statements": STATEMENTS}) + "\n")
    assert [*matching.statements_of(rows, str(tmp_path / "s.jsonl"))] == [1]


def test_score_py_refuses_a_bad_file_with_status_2(tmp_path):
    study = make(tmp_path / "study")
    (tmp_path / "s.jsonl").write_text('{"question": "q"}\n')
    done = score(study, "--statements", tmp_path / "s.jsonl")
    assert done.returncode == 2 and "row 1: field 'statements'" in done.stderr
    assert len(done.stderr.strip().splitlines()[-1]) > 0 and "Traceback" not in done.stderr


def test_review_py_measures_the_offline_reading_without_an_endpoint(tmp_path):
    said = {"Entailment": SENTENCES[0], "Neutral": SENTENCES[1]}
    rows = [
        {"question": f"{QUESTION} {n}", "answer": text, "claim": STATEMENTS[0], "physicians": [label] * 3}
        for n in range(12)
        for label, text in said.items()
    ]
    write_jsonl(tmp_path / "labels.jsonl", rows)
    done = run_here("review.py", "--study_dir", tmp_path, "--labels", tmp_path / "labels.jsonl", "--resamples", 300)
    assert done.returncode == 0, done.stderr
    assert "saw none of these questions" in done.stdout and "on 100% of 24" in done.stdout
    assert read_json(tmp_path / "review" / "offline_labels.json")["entailed_or_not"]["kappa"] == 1.0
