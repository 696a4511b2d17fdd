"""A judge held against physicians' labels of statements, over an endpoint of the test's own."""

import random
import re
from pathlib import Path

import pytest

from conftest import run_here
from local_judge import LocalJudge, serving
from medsft.errors import UserError
from medsft.evaluation.review import claim_judge, llm_judge
from medsft.evaluation.statistics.intervals import Resampling
from medsft.files import read_json, read_jsonl, write_jsonl

LABELLED = Path(__file__).resolve().parents[3] / "shared" / "data" / "kqa_labels.jsonl"
RESAMPLING = Resampling(300, 0.95, 0)


class WordMatcher(LocalJudge):
    """Entailment where most long words of the statement stand in the answer, else neutral; mute on a long answer."""

    def answer(self, question):
        _, answer, claim = re.findall(r"<<<\n(.*?)\n>>>", question, re.DOTALL)
        words = set(re.findall(r"[a-z]{4,}", claim.lower()))
        share = sum(word in answer.lower() for word in words) / max(1, len(words))
        text = "VERDICT: ENTAILMENT" if share > 0.6 else "It is not said.\nVERDICT: NEUTRAL"
        return "" if "mute" in claim else text


class Thinker(LocalJudge):
    """Says to itself what it was asked, and is cut."""

    def answer(self, question):
        return f"<think>I shall end with {question[-90:]}"


def test_what_a_judge_says_to_itself_is_no_verdict():
    with serving(Thinker) as address:
        judge = llm_judge.Judge(address, "m", "")
        assert claim_judge.ask(judge, statement(1, "Take it.", [])) == llm_judge.ABSTAINED
        assert llm_judge.ask(judge, "It hurts.", "one", "two") == llm_judge.ABSTAINED


@pytest.fixture
def endpoint():
    with serving(WordMatcher) as address:
        yield address


def statement(number, claim, labels):
    row = {"question": f"What helps with pain {number}?", "answer": "Take ibuprofen with food.", "claim": claim}
    return row | ({"physicians": labels} if labels else {})


def test_agreement_abstentions_and_corrected_shares(tmp_path, endpoint):
    yes, no = ["Entailment"] * 3, ["Contradiction", "Contradiction", "Neutral"]
    rows = [statement(n, "Take ibuprofen with food", yes) for n in range(12)]
    rows += [
        statement(20 + n, "Take ibuprofen with food, never", no) for n in range(6)
    ]  # which the judge takes for a yes
    rows += [statement(40 + n, "mute", yes) for n in range(2)]
    rows += [statement(60 + n, "Take ibuprofen with food", []) for n in range(40)]
    write_jsonl(tmp_path / "labels.jsonl", rows)
    flags = ["--study_dir", tmp_path, "--labels", tmp_path / "labels.jsonl", "--model", "m", "--resamples", 300]
    done = run_here("review.py", *flags, "--endpoint", endpoint)
    assert done.returncode == 0, done.stderr
    assert "no verdict on 2 of 60 statements" in done.stdout
    found = read_json(tmp_path / "review" / "judge_labels.json")
    assert (found["labelled"], found["abstained"], found["with_majority"]["n"]) == (20, 2, 18)
    assert found["with_majority"]["share"] == pytest.approx(12 / 18)
    assert found["alpha_physicians"] > found["alpha_with_judge"]
    entailed = found["shares"]["Entailment"]
    assert entailed["model_alone"] == pytest.approx(58 / 60) and entailed["mean"] < 0.8
    assert entailed["low"] < 14 / 20 < entailed["high"]


def test_a_file_that_is_no_set_of_labels_is_refused(tmp_path):
    for row, message in (({"claim": "x"}, "'question' is missing"), (statement(1, "x", ["Yes"]), "label 'Yes'")):
        write_jsonl(tmp_path / "f.jsonl", [row])
        with pytest.raises(UserError, match=message):
            claim_judge.read(tmp_path / "f.jsonl")
    assert claim_judge.majority(["Neutral", "Entailment"]) is None


def test_physicians_labels_correct_a_word_matching_judge(endpoint, tmp_path):
    """Half of the physicians' labels, drawn by question, correct the judge's shares; the other half is the truth."""
    if not LABELLED.is_file():
        pytest.skip(f"{LABELLED} is not here")
    rows = claim_judge.read(LABELLED)
    judge = claim_judge.Judge(endpoint, "m", "")
    verdicts = claim_judge.ask_all(judge, rows, tmp_path / "v.json")
    assert claim_judge.ask_all(claim_judge.Judge(endpoint, "m", ""), rows, tmp_path / "v.json") == verdicts
    whole = claim_judge.validate(rows, verdicts, RESAMPLING)
    assert whole["labelled"] > 150 and whole["alpha_physicians"] > 0.5
    assert 0.1 < whole["with_majority"]["kappa"] < 0.9
    questions = sorted({row["question"] for row in read_jsonl(LABELLED)})
    truth = {label: share["people_alone"] for label, share in whole["shares"].items()}
    covered = []
    for seed in range(60):
        kept = set(random.Random(seed).sample(questions, len(questions) // 2))
        some = [row if row["question"] in kept else {**row, "physicians": []} for row in rows]
        for label, share in claim_judge.validate(some, verdicts, RESAMPLING._replace(resamples=40))["shares"].items():
            covered.append(share["low"] <= truth[label] <= share["high"])
    assert sum(covered) / len(covered) > 0.9
