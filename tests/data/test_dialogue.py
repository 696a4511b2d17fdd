"""Reading rows: every supported form gives the same dialogues, and every kind of bad row is named."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import read_all as read
from medsft.data.reading.dialogue import arrange
from medsft.data.reading.row_schemas import parse_context
from medsft.errors import UserError

GOOD = {"patient_message": "I have a cough.", "doctor_response": "Since when?", "dialogue_context": ""}
CONTEXT = "Patient: My knee hurts\nafter running.\nDoctor: Which side?\nDoctor: And since when?"


def write(path: Path, rows: list[Any]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".csv":
        with path.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, fieldnames=list(GOOD))
            writer.writeheader()
            writer.writerows(rows)
    else:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_every_form_gives_the_same_dialogues(tmp_path: Path, suffix: str) -> None:
    followed_up = {"patient_message": "Left, two days.", "doctor_response": "Rest it.", "dialogue_context": CONTEXT}
    dialogues, rejected, count = read(write(tmp_path / f"mine{suffix}", [GOOD, followed_up]))
    assert (count, rejected) == (2, [])
    assert [row.id for row in dialogues] == ["mine:1", "mine:2"]
    assert dialogues[1].turns == [
        ("user", "My knee hurts\nafter running."),
        ("assistant", "Which side?\nAnd since when?"),
        ("user", "Left, two days."),
        ("assistant", "Rest it."),
    ]
    assert dialogues[1].repairs == ["merged_turns"]


@pytest.mark.parametrize(
    ("row", "field", "reason"),
    [
        ({**GOOD, "patient_message": None}, "patient_message", "null"),
        ({**GOOD, "patient_message": 7}, "patient_message", "wrong_type"),
        ({**GOOD, "dialogue_context": ["Patient: Hi"]}, "dialogue_context", "wrong_type"),
        ({**GOOD, "doctor_response": " \n\u200b"}, "doctor_response", "empty"),
        ({**GOOD, "doctor_response": "\x00\x00"}, "doctor_response", "nul_only"),
        ({**GOOD, "doctor_response": "Rest \ud83d."}, "doctor_response", "lone_surrogate"),
        ({"patient_message": "I have a cough."}, "doctor_response", "missing"),
        (["I have a cough.", "Since when?"], "", "not_an_object"),
    ],
)
def test_a_bad_row_is_named_and_the_others_are_kept(tmp_path: Path, row: Any, field: str, reason: str) -> None:
    dialogues, rejected, _ = read(write(tmp_path / "mine.jsonl", [GOOD, row, GOOD]))
    assert [kept.id for kept in dialogues] == ["mine:1", "mine:3"]
    (found,) = rejected
    assert (found.file, found.row, found.field, found.reason) == ("mine.jsonl", 2, field, reason)


def test_a_line_that_is_not_json_is_one_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(GOOD) + "\n{'patient_message': \n" + json.dumps(GOOD) + "\n")
    dialogues, rejected, _ = read(path)
    assert len(dialogues) == 2
    assert (rejected[0].row, rejected[0].reason) == (2, "not_json")


def test_a_blank_line_is_no_row(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(GOOD) + "\n\n" + json.dumps(GOOD) + "\n \n\n")
    dialogues, rejected, count = read(path)
    assert (len(dialogues), rejected, count) == (2, [], 2)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.jsonl", b"", "empty"),
        ("blank.jsonl", b"\n \n", "empty"),
        ("empty.csv", b"patient_message,doctor_response\n", "empty"),
        ("empty.json", b"[]", "empty"),
        (
            "other.csv",
            b"question,answer\nIs it flu?,No.\n",
            "found the columns question, answer; understood are patient.*--columns patient=question,doctor=answer",
        ),
        ("other.jsonl", b'{"question": "Is it flu?"}\n', "found the columns question"),
        ("quotes.csv", b'patient_message,doctor_response\n"a,b\n', "not valid CSV"),
        ("object.json", b'{"rows": []}', "found the columns rows"),
        ("nested.json", b'{\n "a": {"b": 1}\n}', "expected a JSON list"),
        ("broken.json", b"[1,", "not valid JSON after row 1"),
        ("noise.parquet", b"PAR1 no, it is not", "not a readable Parquet file"),
        ("notes.txt", b"hello", "not a dialogue file"),
    ],
)
def test_an_unusable_file_is_refused_in_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read(path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing.jsonl", "./nowhere", "/no/such/place", "missing.csv"])
def test_a_path_that_does_not_exist_is_not_sought_on_the_hub(name: str) -> None:
    with pytest.raises(UserError, match="no such file"):
        read(name)


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    path = tmp_path / "excel.csv"
    path.write_bytes(b"\xef\xbb\xbfpatient_message,doctor_response\r\nI have a cough.,Since when?\r\n")
    dialogues, _, _ = read(path)
    assert dialogues[0].turns[0] == ("user", "I have a cough.")


def test_max_rows_draws_by_seed_and_keeps_row_numbers(tmp_path: Path) -> None:
    rows = [{**GOOD, "patient_message": f"Cough number {number}"} for number in range(1, 101)]
    path = write(tmp_path / "mine.jsonl", rows)
    drawn = read(path, max_rows=10, seed=1)[0]
    assert [row.id for row in drawn] == [row.id for row in read(path, max_rows=10, seed=1)[0]]
    assert [row.id for row in drawn] != [row.id for row in read(path, max_rows=10, seed=2)[0]]
    assert all(row.turns[0][1] == f"Cough number {row.id.split(':')[1]}" for row in drawn)


@given(st.lists(st.tuples(st.sampled_from(["user", "assistant"]), st.text("ab", min_size=1, max_size=3)), max_size=12))
def test_arranged_turns_alternate_from_patient_to_doctor(turns: list[tuple[str, str]]) -> None:
    arranged, _, _ = arrange(turns)
    assert [role for role, _ in arranged] == ["user", "assistant"] * (len(arranged) // 2)
    assert arrange(arranged)[0] == arranged


@pytest.mark.parametrize(
    ("turns", "repair", "left"),
    [
        ([("assistant", "Hello"), ("user", "Hi"), ("assistant", "Yes?")], "leading_doctor_turn", 2),
        ([("user", "Hi"), ("assistant", "Yes?"), ("user", "Thanks")], "trailing_patient_turn", 2),
        ([("user", "Hi"), ("user", "Doctor"), ("assistant", "Yes?")], "merged_turns", 2),
    ],
)
def test_repairs_are_counted(turns: list[tuple[str, str]], repair: str, left: int) -> None:
    arranged, _, repairs = arrange(turns)
    assert repairs == [repair]
    assert len(arranged) == left


def test_context_speakers_in_any_case_and_with_any_line_end() -> None:
    assert parse_context("PATIENT: a\r\nmore\rdoctor : b\n\n") == [("user", "a\nmore"), ("assistant", "b")]
