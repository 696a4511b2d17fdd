"""Row schemas: each is recognised by its columns, and every bad row is named and set apart."""

from pathlib import Path
from typing import Any

import pytest

from conftest import read_all
from corpus import jsonl, pair, turns
from medsft.data.reading.dialogue import BEGINS
from medsft.data.reading.row_fields import BadRow, NotUtf8, list_of, parse_transcript, text_of
from medsft.data.reading.row_schemas import MEDDIALOG, SCHEMAS, read_turns, schema_for
from medsft.errors import UserError

TURNS = turns("My ear hurts.", "Since when?", "May.", "See a doctor.")


PAIR = TURNS[:2]


SPOKEN = [{"user": "patient", "assistant": "doctor"}[turn["role"]] + ": " + turn["content"] for turn in TURNS]


EXAMPLES = {
    "openmed": (pair(dialogue_context=""), PAIR),
    "context": (
        {"patient_message": "May.", "doctor_response": "See a doctor.", "dialogue_context": "\n".join(SPOKEN[:2])},
        TURNS,
    ),
    "ruslanmv": ({"Description": "Ear", "Patient": "My ear hurts.", "Doctor": "Since when?"}, PAIR),
    "processed": ({"description": "Ear", "utterances": SPOKEN}, TURNS),
    "chatdoctor": (
        {"instruction": "If you are a doctor, answer.", "input": "My ear hurts.", "output": "Since when?"},
        PAIR,
    ),
    "alpaca": ({"instruction": "My ear hurts.", "input": "", "output": "Since when?"}, PAIR),
    "messages": (
        {"messages": [{"role": "system", "content": "Be kind."}, *TURNS]},
        [{"role": "system", "content": "Be kind."}, *TURNS],
    ),
    "sharegpt": (
        {"conversations": [{"from": "human" if t["role"] == "user" else "gpt", "value": t["content"]} for t in TURNS]},
        TURNS,
    ),
    "dialogue turns": ({"dialogue_turns": [{"speaker": "patient", "utterance": "My ear hurts."}, *TURNS[1:]]}, TURNS),
    "mts": (
        {"ID": 1, "section_header": "CC", "dialogue": "Doctor: Hello.\n" + "\n".join(SPOKEN)},
        [{"role": "user", "content": BEGINS}, {"role": "assistant", "content": "Hello."}, *TURNS],
    ),
    "prompt and completion": ({"prompt": "My ear hurts.", "completion": "Since when?"}, PAIR),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_schema_is_recognised_by_its_columns(tmp_path: Path, name: str) -> None:
    row, expected = EXAMPLES[name]
    path = tmp_path / "download"  # the name says nothing
    path.write_bytes(jsonl(row, row))
    dialogues, rejected, _ = read_all(path)
    assert not rejected
    assert [dialogue.turns for dialogue in dialogues] == [expected, expected]


def test_every_schema_has_an_example() -> None:
    found = {schema_for([*row], None, "x") for row, _ in EXAMPLES.values()}
    assert found == {*SCHEMAS}


@pytest.mark.parametrize("columns", ["patient=question,doctor=answer", {"patient": "question", "doctor": "answer"}])
def test_a_mapping_reads_other_columns(tmp_path: Path, columns: Any) -> None:
    path = tmp_path / "faq.csv"
    path.write_text("question,answer\nMy ear hurts.,Since when?\n")
    assert read_all(path, columns=columns)[0][0].turns == PAIR
    with pytest.raises(UserError, match="no column 'reply'.*found are question, answer"):
        read_all(path, columns="patient=question,doctor=reply")
    with pytest.raises(UserError, match="expected patient=COLUMN"):
        read_all(path, columns="patient")
    (tmp_path / "known.jsonl").write_bytes(jsonl(pair(), pair()))
    mixed = read_all([tmp_path / "known.jsonl", path], columns=columns)[0]
    assert [(dialogue.source, dialogue.turns) for dialogue in mixed] == [("known", PAIR)] * 2 + [("faq", PAIR)]
    with pytest.raises(UserError, match="columns: no source has the columns question, answer"):
        read_all(tmp_path / "known.jsonl", columns=columns)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (jsonl(pair(patient_message="x" * 10_000_000)), "too_long"),
        (jsonl(pair(patient_message={"a": 1})), "wrong_type"),
        (jsonl({**pair(), "doctor_response": None}), "null"),
        (b'{"patient_message": "fi\xe8vre", "doctor_response": "Rest."}\n', "not_utf8"),
        (b"\x00\xff\xfe{}\x80\n", "not_utf8"),
        (b'{"patient_message": "\\ud83d", "doctor_response": "Rest."}\n', "lone_surrogate"),
        (jsonl({**pair(), "patient_message": "\x00\x01"[:1]}), "nul_only"),
        (jsonl(pair(dialogue_context="Patient: a\nDoctor: b\n" * 4_000)), "too_many_turns"),
        (b"[" * 100_000 + b"\n", "not_json"),
    ],
)
def test_a_bad_row_never_stops_the_others(tmp_path: Path, row: bytes, reason: str) -> None:
    (tmp_path / "mine").write_bytes(jsonl(pair()) + row + jsonl(pair()))
    dialogues, rejected, _ = read_all(tmp_path / "mine")
    assert [dialogue.id for dialogue in dialogues] == ["mine:1", "mine:3"]
    assert [(bad.row, bad.reason) for bad in rejected] == [(2, reason)]


@pytest.mark.parametrize(
    "utterance", [["patient: a", 7], ["nurse: a"], "patient: a", [{"role": "nurse", "content": "a"}]]
)
def test_bad_turns_are_one_bad_row(tmp_path: Path, utterance: Any) -> None:
    kind = "messages" if isinstance(utterance, list) and isinstance(utterance[0], dict) else "utterances"
    (tmp_path / "mine").write_bytes(jsonl({kind: utterance}, {kind: utterance}))
    assert [bad.field for bad in read_all(tmp_path / "mine")[1]] == [kind, kind]


GOOD = {"patient_message": "I have a cough.", "doctor_response": "Since when?", "dialogue_context": ""}


@pytest.mark.parametrize(
    ("row", "field", "reason"),
    [
        ({**GOOD, "patient_message": None}, "patient_message", "null"),
        ({**GOOD, "patient_message": 7}, "patient_message", "wrong_type"),
        ({**GOOD, "dialogue_context": {"a": 1}}, "dialogue_context", "wrong_type"),
        ({**GOOD, "doctor_response": " \n\u200b"}, "doctor_response", "empty"),
        ({**GOOD, "doctor_response": "\x00\x00"}, "doctor_response", "nul_only"),
        ({**GOOD, "doctor_response": "Rest \ud83d."}, "doctor_response", "lone_surrogate"),
        ({"patient_message": "I have a cough."}, "doctor_response", "missing"),
        (["I have a cough.", "Since when?"], "", "not_an_object"),
    ],
)
def test_a_bad_row_is_named_and_the_others_are_kept(tmp_path: Path, row: Any, field: str, reason: str) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_bytes(jsonl(GOOD, row, GOOD))
    dialogues, rejected, _ = read_all(path)
    assert [kept.id for kept in dialogues] == ["mine:1", "mine:3"]
    (found,) = rejected
    assert (found.file, found.row, found.field, found.reason) == ("mine.jsonl", 2, field, reason)


def test_a_transcript_in_any_case_and_with_any_line_end() -> None:
    assert parse_transcript("PATIENT: a\r\nmore\rdoctor : b\n\n") == turns("a\nmore", "b")
    assert parse_transcript("It hurts.\nDoctor: Where?") == turns("It hurts.", "Where?")
    family = parse_transcript("Doctor: Since when?\nGuest_family: She fell.\nGuest_clinician: Let me look.")
    assert [turn["role"] for turn in family] == ["assistant", "user", "assistant"]  # MTS-Dialog's other speakers
    assert [turn["content"] for turn in family] == ["Since when?", "She fell.", "Let me look."]


def test_values_of_a_row_are_checked() -> None:
    assert text_of({"a": "x"}, "a") == "x" and text_of({}, "a", required=False) == ""
    for row, reason in (({}, "missing"), ({"a": None}, "null"), ({"a": 1}, "wrong_type"), ({"a": " "}, "empty")):
        with pytest.raises(BadRow, match=f"a: {reason}"):
            text_of(row, "a")
    assert list_of({"a": [1]}, "a") == [1]
    with pytest.raises(BadRow, match="a: too_many_turns"):
        list_of({"a": [1] * 1_001}, "a")


@pytest.mark.parametrize(("row", "reason"), [(NotUtf8("x"), "not_utf8"), ("x", "not_json"), ([1], "not_an_object")])
def test_a_row_that_is_no_object_is_named(row: Any, reason: str) -> None:
    with pytest.raises(BadRow, match=reason):
        read_turns(row, MEDDIALOG)
