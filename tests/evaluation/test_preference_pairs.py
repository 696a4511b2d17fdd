"""Choices of people as preference pairs that TRL reads: known answers, ties and unsafe winners left out."""

import pytest
from trl.data_utils import is_conversational, maybe_extract_prompt

from conftest import run_here
from medsft.errors import UserError
from medsft.evaluation.review import human_review, preference_pairs
from medsft.files import read_jsonl, write_jsonl
from scored_study import make

ARMS = ("baseline", "lora")


def pair(number, again=None):
    key = {"answer_1": "lora", "answer_2": "baseline"}
    row = {"pair": number, "id": f"row{number}", "group": "g", "patient": "p", "key": key, "repeat_of": again}
    return row | {"answer_1": f"by lora {number}", "answer_2": f"by baseline {number}"}


def rating(number, choice, unsafe=(), again=None):
    row = {"pair": number, "id": f"row{number}", "group": "g", "choice": choice}
    return row | {"unsafe": [*unsafe], "repeat_of": again}


def test_the_majority_is_chosen_and_ties_and_unsafe_winners_are_left_out():
    pairs = [pair(1), pair(2), pair(3), pair(4), pair(5, again=1)]
    raters = {
        "a": [
            rating(1, "lora"),
            rating(2, "lora"),
            rating(3, "tie"),
            rating(4, "lora"),
            rating(5, "baseline", again=1),
        ],
        "b": [rating(1, "tie"), rating(2, "baseline"), rating(3, "baseline"), rating(4, "lora", unsafe=["lora"])],
    }
    asked = {f"row{n}": [{"role": "user", "content": f"question {n}"}] for n in range(1, 6)}
    found = preference_pairs.of_forms(raters, pairs, asked)
    assert [(row["id"], row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in found] == [
        ("row1", "by lora 1", "by baseline 1"),
        ("row3", "by baseline 3", "by lora 3"),
    ]
    assert all(is_conversational(row) and maybe_extract_prompt(row) == row for row in found)


def test_votes_with_texts_become_pairs_where_the_arms_were_asked_the_same(tmp_path):
    first = [{"role": "user", "content": "It hurts."}]

    def dialogue(*answers):
        turns = list(first)
        for at, text in enumerate(answers):
            turns += [{"role": "assistant", "content": text}]
            turns += [{"role": "user", "content": "And now?"}] if at < len(answers) - 1 else []
        return turns

    said = {"lora": dialogue("rest"), "baseline": dialogue("see a doctor"), "full": dialogue("rest")}
    later = {"lora": dialogue("rest", "ice"), "baseline": dialogue("go", "run")}
    rows = [
        {"arms": [*said], "choice": "lora", "dialogues": said},
        {"arms": [*said], "choice": "lora"},
        {"arms": [*said], "choice": "no difference", "dialogues": said},
        {"arms": [*later], "choice": "lora", "dialogues": later},
        {"arms": [*said], "choice": "lora", "dialogues": said, "unsafe": ["lora"]},
        {"arms": [*said], "choice": "lora", "dialogues": said, "blinded": False},
        {"arms": [*said], "choice": "lora", "dialogues": {arm: turns + first for arm, turns in said.items()}},
    ]
    write_jsonl(tmp_path / "votes.jsonl", rows)
    (found,) = preference_pairs.of_votes(tmp_path / "votes.jsonl")
    assert (found["prompt"], found["chosen"][0]["content"], found["rejected"][0]["content"]) == (
        first,
        "rest",
        "see a doctor",
    )
    assert preference_pairs.of_votes(tmp_path / "none.jsonl") == []
    write_jsonl(tmp_path / "bad.jsonl", [{"arms": ["lora"], "choice": "qlora", "dialogues": {"lora": dialogue("x")}}])
    with pytest.raises(UserError, match="row 1: field 'dialogues' has no answer of 'qlora'"):
        preference_pairs.of_votes(tmp_path / "bad.jsonl")


def test_review_py_writes_them_and_warns_of_the_test_rows(tmp_path):
    study = make(tmp_path / "study")
    flags = ["--study_dir", study, "--arm", "lora", "--resamples", 100, "--preferences", tmp_path / "pairs.jsonl"]
    done = run_here("review.py", *flags)
    assert done.returncode == 2 and "no form of lora is filled in" in done.stderr
    form = study / "review" / "lora_sheet.csv"
    rows = human_review.read_rows(form)
    human_review.write_rows(tmp_path / "doctor.csv", [{**row, "preferred": "1"} for row in rows])
    done = run_here("review.py", *flags, "--sheets", tmp_path / "doctor.csv")
    assert done.returncode == 0, done.stderr
    written = read_jsonl(tmp_path / "pairs.jsonl")
    assert f"{len(written)} of them answer test rows" in done.stdout and len(written) >= 8
    by_question = {row["patient"]: row["answer_1"] for row in reversed(rows)}  # pairs shown again come last
    for row in written:
        assert row["chosen"][0]["content"].strip() == by_question[row["prompt"][-1]["content"]].strip()
