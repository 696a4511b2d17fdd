"""Whatever a user puts into a file ends in rows that are read, or in one line whose remedy works."""

import csv
import datetime
import decimal
import io
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import read_all
from corpus import jsonl, turns
from medsft.data.reading.row_fields import joined_parts, list_in_text, transposed
from medsft.errors import UserError

ASKED = ["My knee clicks; is it worn?", "I take 0,5 mg.\nIs that much?", 'He said "rest", but how long?']
ANSWERED = ["Clicking alone is harmless.", "No, it is a usual dose.", "Two weeks, then walk."]
PAIRS = [turns(asked, answered) for asked, answered in zip(ASKED, ANSWERED, strict=True)]
FULL_WIDTH = "头痛三天，体温37.5℃；要去医院吗？（第一次）"


def table(delimiter: str = ",", end: str = "\r\n", header: str = "patient_message{}doctor_response") -> str:
    out = io.StringIO(newline="")
    out.write(header.format(delimiter) + end)
    csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL).writerows(
        zip(ASKED, ANSWERED, strict=True)
    )
    return out.getvalue()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize(("delimiter", "end"), [(",", "\r\n"), (";", "\r"), ("\t", "\n"), ("|", "\r")])
def test_a_table_is_read_whatever_its_encoding_delimiter_and_line_ends(
    tmp_path: Path, encoding: str, delimiter: str, end: str
) -> None:
    for name, first in (("plain", ""), ("excel", f"sep={delimiter}{end}")):
        (tmp_path / name).write_bytes((first + table(delimiter, end)).encode(encoding))
        dialogues, rejected, _ = read_all(tmp_path / name)
        assert [
            [{**turn, "content": turn["content"].replace("\r", "\n")} for turn in row.turns] for row in dialogues
        ] == PAIRS
        assert not rejected


@pytest.mark.parametrize("header", [" patient_message {} doctor_response ", "patient_message{} doctor_response"])
def test_blanks_around_names_are_no_part_of_them(tmp_path: Path, header: str) -> None:
    (tmp_path / "a.csv").write_text(table(header=header))
    (tmp_path / "b.csv").write_text('id, patient_message, doctor_response\n1, "Sore, dry throat?", "Drink."\n')
    (tmp_path / "c.jsonl").write_bytes(jsonl({" Patient": "Sore, dry throat?", "Doctor ": "Drink."}))
    assert [row.turns for row in read_all(tmp_path / "a.csv")[0]] == PAIRS
    for name in ("b.csv", "c.jsonl"):
        assert read_all(tmp_path / name)[0][0].turns == turns("Sore, dry throat?", "Drink.")


def test_a_cell_with_a_dumps_lines_is_a_cell(tmp_path: Path) -> None:
    cell = "My letter says:\nid=90210\nDescription\nDialogue\nDoctor: rest"
    with (tmp_path / "mine.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([("Patient", "Doctor"), (cell, "See him again.")])
    assert read_all(tmp_path / "mine.csv")[0][0].turns == turns(cell, "See him again.")


def sharegpt(dialogue: list[Any]) -> list[dict[str, Any]]:
    return [{"from": {"user": "human"}.get(t["role"], "gpt"), "value": t["content"]} for t in dialogue]


def parts(dialogue: list[Any]) -> list[dict[str, Any]]:
    return [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in dialogue]


CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "a", "function": {"name": "find"}}]}
SHAPES: dict[str, Callable[[list[Any]], Any]] = {
    "trl messages": lambda d: {"messages": d},
    "trl prompt and completion": lambda d: {"prompt": d[:1], "completion": d[1:]},
    "plain prompt and completion": lambda d: {"prompt": d[0]["content"], "completion": d[1]["content"]},
    "list of turns": lambda d: d,
    "sharegpt": lambda d: {"conversations": sharegpt(d), "system": ""},
    "sharegpt with a system column": lambda d: {"conversations": sharegpt(d), "system": "Be kind."},
    "alpaca with a system column": lambda d: {
        "instruction": d[0]["content"],
        "output": d[1]["content"],
        "system": "Be kind.",
    },
    "list of sharegpt turns": sharegpt,
    "content parts": lambda d: {"messages": parts(d)},
    "tools": lambda d: {
        "messages": [
            {"role": "developer", "content": "Be kind."},
            d[0],
            CALL,
            {"role": "tool", "tool_call_id": "a", "content": "found"},
            d[1],
        ],
        "tools": [{"type": "function"}],
    },
    "sharegpt tools": lambda d: {
        "conversations": [sharegpt(d)[0], {"from": "function_call", "value": "{}"}, *sharegpt(d)[1:]]
    },
    "messages as json text": lambda d: {"messages": json.dumps(d)},
    "messages as python text": lambda d: {"messages": str(d)},
    "struct of lists": lambda d: {"dialogue_turns": {"speaker": [0, 1], "utterance": [turn["content"] for turn in d]}},
    "speakers beside a null": lambda d: {
        "dialogue_turns": {"speaker": [0.0, 1.0], "utterance": [turn["content"] for turn in d]}
    },
    "alpaca": lambda d: {"instruction": d[0]["content"], "input": float("nan"), "output": d[1]["content"]},
    "nan context": lambda d: {
        "patient_message": d[0]["content"],
        "doctor_response": d[1]["content"],
        "dialogue_context": float("nan"),
    },
    "both keys": lambda d: {"messages": [{**turn, "value": None, "text": float("nan")} for turn in d]},
    "utterances as objects": lambda d: {"utterances": d},
}


WITH_SYSTEM = {"tools", "sharegpt with a system column", "alpaca with a system column"}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("form", ["json", "jsonl", "parquet"])
def test_every_shape_of_messages_is_read(tmp_path: Path, name: str, form: str) -> None:
    rows, path = [SHAPES[name](dialogue) for dialogue in PAIRS], tmp_path / "download"
    if form == "parquet":
        if isinstance(rows[0], list):
            pytest.skip("a Parquet row has names")
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        path.write_bytes(json.dumps(rows).encode() if form == "json" else jsonl(*rows))
    dialogues, rejected, _ = read_all(path)
    system = [{"role": "system", "content": "Be kind."}] if name in WITH_SYSTEM else []
    assert [row.turns for row in dialogues] == [[*system, *pair] for pair in PAIRS] and not rejected
    assert dialogues[0].repairs == (["left_out_tool"] if "tools" in name else [])


def test_earlier_pairs_of_alpaca_are_earlier_turns(tmp_path: Path) -> None:
    row = {"instruction": "Left.", "output": "Rest it.", "history": [["My knee hurts.", "Which?"]]}
    (tmp_path / "a.jsonl").write_bytes(jsonl(row))
    assert read_all(tmp_path / "a.jsonl")[0][0].turns == turns("My knee hurts.", "Which?", "Left.", "Rest it.")


def test_an_image_is_no_text_and_a_text_part_may_be_a_string() -> None:
    assert joined_parts(["a", {"text": "b"}, {"type": "text", "text": "c", "image_url": None}], "x") == "a\nb\nc"
    with pytest.raises(Exception, match="not_text"):
        joined_parts([{"type": "image_url", "image_url": {"url": "x"}}], "x")
    assert list_in_text("[1") == "[1" and list_in_text(" ['a']") == ["a"] and list_in_text("a") == "a"
    assert transposed({"a": [1, 2], "b": ["c"]}) is None and transposed({"a": 1}) is None
    assert transposed({"a": [1, 2], "n": 3}) == [{"a": 1}, {"a": 2}]


def test_every_type_of_arrow_beside_the_texts_is_read(tmp_path: Path) -> None:
    others = {
        "when": pyarrow.array([2**62] * 3, pyarrow.timestamp("ns")),
        "late": pyarrow.array([2**30] * 3, pyarrow.date32()),
        "took": pyarrow.array([2**62] * 3, pyarrow.duration("s")),
        "price": pyarrow.array([decimal.Decimal("1.5")] * 3),
        "tags": pyarrow.array([[("a", "b")]] * 3, pyarrow.map_(pyarrow.string(), pyarrow.string())),
        "bytes": pyarrow.array([b"\xff"] * 3),
        "nothing": pyarrow.nulls(3),
        "day": pyarrow.array([datetime.time(1)] * 3),
    }
    kinds = {
        "plain": pyarrow.string(),
        "large": pyarrow.large_string(),
        "bytes": pyarrow.binary(),
        "dictionary": pyarrow.dictionary(pyarrow.int32(), pyarrow.string()),
    }
    for name, kind in kinds.items():
        asked, answered = pyarrow.array(ASKED), pyarrow.array(ANSWERED)
        if name == "dictionary":
            asked, answered = asked.dictionary_encode(), answered.dictionary_encode()
        columns = {"Patient": asked.cast(kind), "Doctor": answered.cast(kind), **others}
        with pyarrow.OSFile(str(tmp_path / name), "wb") as sink:
            rows = pyarrow.table(columns)
            with pyarrow.ipc.new_file(sink, rows.schema) as writer:
                writer.write_table(rows)
        assert [row.turns for row in read_all(tmp_path / name)[0]] == PAIRS, name


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04" + b"\x00" * 40, "Excel workbook; unpack it, or save the sheet as CSV"),
        (b"%PDF-1.7\n1,2\n", "a PDF"),
        (b"question,question\na,b\n", "two columns are named 'question'"),
        (b'[{"messages": []}]\n[{"messages": []}]', "cannot be used|empty|exchange|text after"),
        (b'{"role": "user", "content": "It hurts."}\n' * 3, "put the turns of a conversation into one row"),
        (b"id,number\n1,2\n", "--columns patient=.*,doctor="),
        (b'{"id": 1, "n": 2}\n', "give the patient's and the doctor's words as two columns"),
        (b'[{"a": 1}] and more', "more text after the list of 1 rows"),
    ],
)
def test_what_is_no_table_of_dialogues_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x").write_bytes(content)
    try:
        dialogues, rejected, _ = read_all(tmp_path / "x")
    except UserError as error:
        assert re.search(message, str(error)) and "\n" not in str(error)
    else:
        assert not dialogues and rejected and re.search(message, "cannot be used")


@pytest.mark.parametrize(
    "names", [("the question", "the reply"), ("Q, in full", "A=text"), ("x", "y"), ("Frage", "Antwort des Arztes")]
)
@pytest.mark.parametrize("form", ["csv", "jsonl", "messages"])
def test_the_mapping_that_is_suggested_works_as_it_is_written(
    tmp_path: Path, names: tuple[str, str], form: str
) -> None:
    values: list[tuple[Any, Any]] = list(zip(ASKED, ANSWERED, strict=True))
    if form == "messages":
        values = [(dialogue[:1], dialogue[1:]) for dialogue in PAIRS]
    rows = [{"id": n, names[0]: asked, names[1]: answered} for n, (asked, answered) in enumerate(values)]
    path = tmp_path / "mine"
    if form == "csv":
        with path.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, ["id", *names])
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_bytes(jsonl(*rows))
    with pytest.raises(UserError) as caught:
        read_all(path)
    flag, given = shlex.split(str(caught.value).split(": ")[-1])
    assert flag == "--columns"
    dialogues, rejected, _ = read_all(path, columns=given)
    assert not rejected and {turn["content"] for row in dialogues for turn in row.turns} == {*ASKED, *ANSWERED}


SCALAR = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["user", "doctor", "gpt", "x"]),
)
VALUE = st.recursive(
    SCALAR,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "from", "content", "value", "text", "type", "speaker", "utterance"]), inner
        )
    ),
    max_leaves=8,
)
COLUMN = st.sampled_from(
    [
        "messages",
        "conversations",
        "dialogue_turns",
        "utterances",
        "prompt",
        "completion",
        "patient_message",
        "doctor_response",
        "dialogue_context",
        "instruction",
        "input",
        "output",
        "history",
        "dialogue",
        "Patient",
        "Doctor",
        "id",
    ]
)
ROWS = st.lists(st.dictionaries(COLUMN, VALUE, min_size=1, max_size=5) | VALUE, min_size=1, max_size=4)


def ends_well(path: Path) -> None:
    """Rows, or one line of a UserError."""
    try:
        dialogues, rejected, count = read_all(path)
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert len(dialogues) + len(rejected) == count


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ROWS, st.booleans())
def test_any_json_ends_in_rows_or_in_one_line(tmp_path: Path, rows: list[Any], lines: bool) -> None:
    (tmp_path / "x").write_text("".join(json.dumps(r) + "\n" for r in rows) if lines else json.dumps(rows))
    ends_well(tmp_path / "x")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.lists(st.text(max_size=6) | st.sampled_from([FULL_WIDTH, "sep=;", "id=7", '"a', "a\rb"]), max_size=4),
        max_size=4,
    ),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["utf-8", "utf-16", "cp1252"]),
    st.sampled_from(["", "patient_message,doctor_response\n", "Patient;Doctor\r"]),
)
def test_any_table_ends_in_rows_or_in_one_line(
    tmp_path: Path, cells: list[list[str]], delimiter: str, encoding: str, header: str
) -> None:
    text = header + "\n".join(delimiter.join(row) for row in cells)
    (tmp_path / "x").write_bytes(text.encode(encoding, "replace"))
    ends_well(tmp_path / "x")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=60),
    st.sampled_from([b"", b"PAR1", b"ARROW1\x00\x00", b"\xff\xff\xff\xff", b"\x1f\x8b", b"\xff\xfe"]),
)
def test_any_bytes_end_in_rows_or_in_one_line(tmp_path: Path, content: bytes, start: bytes) -> None:
    (tmp_path / "x").write_bytes(start + content)
    ends_well(tmp_path / "x")
