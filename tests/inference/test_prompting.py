"""Prompted baselines: what the model is asked with, and that the files keep the patient's question alone."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import run_here
from medsft.arguments import GenerateArguments
from medsft.errors import UserError
from medsft.files import read_json, read_jsonl
from medsft.inference import prompting
from medsft.models import embedded, loading
from medsft.tokenization.chat_template import prompt_ids

SYSTEM = "You are a careful doctor. Answer in a few short sentences."
EXAMPLES = [
    [{"role": "user", "content": f"Question {n}?"}, {"role": "assistant", "content": f"Answer {n}."}] for n in range(3)
]
ROW = {"id": 1, "group": 1, "source": "made up", "messages": [
    {"role": "user", "content": "I cough."}, {"role": "assistant", "content": "Rest."}]}  # fmt: skip
ARGS = GenerateArguments(model_name_or_path=embedded.SMOLLM2, system_prompt=SYSTEM, examples=3)


@pytest.fixture(scope="module")
def tokenizer():
    return loading.load_tokenizer(embedded.SMOLLM2)


def test_instructions_are_a_system_turn_and_examples_come_before_the_question(tokenizer):
    args = prompting.own_options(replace(ARGS, arm="baseline_fewshot"))
    [row], fewer = prompting.prompted([ROW], args, [EXAMPLES], tokenizer, 4000)
    assert fewer == 0
    assert row["messages"] == [
        {"role": "system", "content": SYSTEM}, *[turn for example in EXAMPLES for turn in example], *ROW["messages"]
    ]  # fmt: skip
    text = tokenizer.decode(prompt_ids(tokenizer, row["messages"][:-1]))
    assert text.index(SYSTEM) < text.index("Answer 0.") < text.index("Answer 2.") < text.index("I cough.")
    assert "Rest." not in text


def test_examples_that_do_not_fit_are_left_out_the_furthest_first(tokenizer):
    args = prompting.own_options(replace(ARGS, arm="baseline_fewshot"))
    [whole], _ = prompting.prompted([ROW], args, [EXAMPLES[1:]], tokenizer, 4000)
    room = len(prompt_ids(tokenizer, whole["messages"][:-1]))
    [row], fewer = prompting.prompted([ROW], args, [EXAMPLES], tokenizer, room)
    assert fewer == 1 and row == whole
    [bare], fewer = prompting.prompted([ROW], args, [EXAMPLES], tokenizer, 1)
    assert fewer == 1 and [turn["role"] for turn in bare["messages"]] == ["system", "user", "assistant"]


def test_a_template_without_system_turns_has_them_in_the_first_message(tokenizer, monkeypatch):
    monkeypatch.setattr(prompting, "choose", lambda *_: "merge")
    args = prompting.own_options(replace(ARGS, arm="baseline_prompted"))
    [row], _ = prompting.prompted([ROW], args, [[]], tokenizer, 4000)
    assert row["messages"][0] == {"role": "user", "content": f"{SYSTEM}\n\nI cough."}


def test_options_of_prompts_count_for_prompted_arms_only():
    assert prompting.own_options(replace(ARGS, arm="lora")) == prompting.own_options(GenerateArguments(
        arm="lora", model_name_or_path=embedded.SMOLLM2, examples=9))  # fmt: skip
    assert prompting.own_options(replace(ARGS, arm="baseline_prompted")).examples == 0
    for wrong, said in (
        ({"arm": "baseline_prompted", "system_prompt": " "}, "give its instructions with --system_prompt"),
        ({"arm": "baseline_fewshot", "examples": 0}, "examples 0"),
        ({"examples_by": "luck"}, "examples_by 'luck'"),
    ):
        with pytest.raises(UserError, match=said):
            prompting.own_options(replace(ARGS, **wrong))


@pytest.mark.slow
def test_prompted_arms_answer_otherwise_and_keep_the_question_as_it_was(
    tiny_study: Path, random_model: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_study / "data", tmp_path / "data")
    common = ("--study_dir", tmp_path, "--model_name_or_path", random_model, "--max_new_tokens", 8, "--max_rows", 6,
              "--likelihood_rows", 4, "--dtype", "float32", "--system_prompt", SYSTEM)  # fmt: skip
    arms = {"baseline": (), "baseline_prompted": (), "baseline_fewshot": ("--examples_by", "nearest")}
    answers, likely = {}, {}
    for arm, more in arms.items():
        done = run_here("generate.py", *common, "--arm", arm, *more)
        assert done.returncode == 0, done.stderr
        answers[arm] = read_jsonl(tmp_path / arm / "generations.jsonl")
        likely[arm] = [row["nll"] for row in read_jsonl(tmp_path / arm / "likelihood.jsonl")]
    settings = {arm: read_json(tmp_path / arm / "generation.json")["settings"] for arm in arms}
    assert [settings[arm]["system_prompt"] for arm in arms] == ["", SYSTEM, SYSTEM]
    assert [settings[arm]["examples"] for arm in arms] == [0, 0, 2]
    asked = [
        [(row["id"], row["prompt"], row["messages"], row["reference"]) for row in rows] for rows in answers.values()
    ]
    assert asked[0] == asked[1] == asked[2]
    said = [[row["prediction"] for row in rows] for rows in answers.values()]
    assert said[0] != said[1] and said[1] != said[2]
    assert likely["baseline"] != likely["baseline_prompted"] != likely["baseline_fewshot"]
    again = run_here("generate.py", *common[:-1], "Another prompt.", "--arm", "baseline")
    assert "already done" in again.stdout  # what other arms are told does not concern it
