"""Rows of generations.jsonl: the turns of a conversation as they were, in old files and new ones."""

import json
from pathlib import Path

import pytest

from medsft.errors import UserError
from medsft.files import write_jsonl
from medsft.inference import generations_file

TURNS = [
    {"role": "user", "content": "My knee hurts.\nDoctor: chest pain"},
    {"role": "assistant", "content": "Since when?"},
    {"role": "user", "content": "Two days."},
]
ROW = {"id": 1, "group": 1, "source": "s", "messages": [*TURNS, {"role": "assistant", "content": "Rest it."}]}


def answered(**changes: object) -> dict:
    row = {**generations_file.question(ROW), "prediction": "Rest.", "stopped": True, "new_tokens": 2, **changes}
    return {name: value for name, value in row.items() if value is not None}


def write(study: Path, **arms: dict) -> Path:
    for arm, row in arms.items():
        write_jsonl(study / arm / "generations.jsonl", [row])
    return study


def test_the_turns_of_a_test_row_reach_every_arm_beside_the_text_for_people(tmp_path: Path) -> None:
    asked = generations_file.question(ROW)
    assert (asked["messages"], asked["reference"]) == (TURNS, "Rest it.")
    first, *_ = asked["prompt"].split("\nDoctor: Since when?\nPatient: Two days.")
    assert first == "Patient: My knee hurts.\nDoctor: chest pain"
    single = generations_file.question({**ROW, "messages": ROW["messages"][2:]})
    assert (single["prompt"], single["messages"]) == ("Two days.", TURNS[2:])
    arms = generations_file.read_arms(write(tmp_path, baseline=answered(), lora=answered(prediction="Cool it.")))
    assert [*arms] == ["baseline", "lora"]
    assert [row["messages"] for row in generations_file.all_rows(arms)] == [TURNS]


def test_an_older_file_without_turns_is_read_as_one_turn_of_the_patient(tmp_path: Path) -> None:
    file = tmp_path / "baseline" / "generations.jsonl"
    file.parent.mkdir()
    file.write_text(json.dumps(answered(messages=None, prompt="It \ud800 hurts.")))
    (row,) = generations_file.read_arms(tmp_path)["baseline"]
    assert row["messages"] == [{"role": "user", "content": "It ? hurts."}]
    assert [row] == generations_file.read_rows(file)


def test_arms_that_were_asked_in_other_turns_are_refused(tmp_path: Path) -> None:
    study = write(tmp_path, baseline=answered(), lora=answered(messages=TURNS[:1]))
    with pytest.raises(UserError, match="lora/generations.jsonl: row 1: field 'messages' is not what another arm"):
        generations_file.all_rows(generations_file.read_arms(study))


@pytest.mark.parametrize("turns", ["text", [1], [{"role": "nurse", "content": "a"}], [{"role": "user", "content": 1}]])
def test_turns_of_the_wrong_kind_are_named(tmp_path: Path, turns: object) -> None:
    with pytest.raises(UserError, match="row 1: field 'messages' is missing or of the wrong kind"):
        generations_file.read_arms(write(tmp_path, baseline=answered(messages=turns)))
