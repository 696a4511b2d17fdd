"""File formats: each is detected by its content, packed or not; a damaged file is refused in one line."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from conftest import read_all, run_script
from corpus import jsonl, pair, turns
from medsft.data.reading.arrow_formats import batch_rows
from medsft.data.reading.file_formats import ENDINGS, file_rows
from medsft.data.reading.row_fields import NotUtf8
from medsft.data.reading.source_file import source_file
from medsft.data.reading.text_formats import csv_rows, json_rows, parse_line, text_lines
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
    dialogues, rejected, count = read_all(write(tmp_path / f"mine{suffix}", [GOOD, followed_up]))
    assert (count, rejected) == (2, [])
    assert [row.id for row in dialogues] == ["mine:1", "mine:2"]
    knee = "My knee hurts\nafter running."
    assert dialogues[1].turns == turns(knee, "Which side?\nAnd since when?", "Left, two days.", "Rest it.")
    assert dialogues[1].repairs == ["merged_turns"]


@pytest.mark.parametrize("form", ["arrow file", "arrow stream", "parquet", "parquet.gz", "json", "wrapped", "tsv"])
def test_every_container_is_told_by_its_content(tmp_path: Path, form: str) -> None:
    table, path = pyarrow.Table.from_pylist([pair(), pair()]), tmp_path / "download"
    if form.startswith("arrow"):
        new = pyarrow.ipc.new_file if form == "arrow file" else pyarrow.ipc.new_stream
        with pyarrow.OSFile(str(path), "wb") as sink, new(sink, table.schema) as writer:
            writer.write_table(table)
    elif form.startswith("parquet"):
        pyarrow.parquet.write_table(table, path)
        if form.endswith("gz"):
            path.write_bytes(gzip.compress(path.read_bytes()))
    elif form == "tsv":
        path.write_text("patient_message\tdoctor_response\n" + "My ear hurts.\tSince when?\n" * 2)
    else:
        rows = [pair(), pair()]
        path.write_text(json.dumps({"version": 1, "data": rows} if form == "wrapped" else rows, indent=2))
    dialogues, _, _ = read_all(path)
    assert [dialogue.turns for dialogue in dialogues] == [turns("My ear hurts.", "Since when?")] * 2


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("gzip", "damaged or cut short gzip after row"),
        ("zstd", "damaged or cut short zstd after row"),
        ("parquet", "not a readable Parquet file"),
        ("json", "not valid JSON after row 1"),
    ],
)
def test_half_a_file_is_one_line_and_status_2(tmp_path: Path, kind: str, message: str) -> None:
    raw = jsonl(*[pair(noise=f"{n * 7919 % 10_007}") for n in range(3_000)])
    if kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([pair(number=n) for n in range(50)]), tmp_path / "half")
        raw = (tmp_path / "half").read_bytes()
    packed = pyarrow.compress(raw, codec="gzip" if kind == "gzip" else "zstd", asbytes=True)
    content = {"parquet": raw, "json": json.dumps([pair(), pair()]).encode()}.get(kind, packed)
    (tmp_path / "half").write_bytes(content[: 2 * len(content) // 3])
    with pytest.raises(UserError, match=message) as caught:
        read_all(tmp_path / "half")
    assert "\n" not in str(caught.value)
    if kind == "gzip":
        done = run_script("prepare_data.py", "--data", tmp_path / "half", "--study_dir", tmp_path / "study")
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert "half: damaged or cut short gzip" in done.stderr


def test_a_line_that_is_not_json_is_one_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(GOOD) + "\n{'patient_message': \n" + json.dumps(GOOD) + "\n")
    dialogues, rejected, _ = read_all(path)
    assert len(dialogues) == 2
    assert (rejected[0].row, rejected[0].reason) == (2, "not_json")


def test_a_blank_line_is_no_row(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(GOOD) + "\n\n" + json.dumps(GOOD) + "\n \n\n")
    dialogues, rejected, count = read_all(path)
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
            "columns question, answer; understood are messages, .*patient_message .*--columns patient=question,doctor=",
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
        read_all(path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    path = tmp_path / "excel.csv"
    path.write_bytes(b"\xef\xbb\xbfpatient_message,doctor_response\r\nI have a cough.,Since when?\r\n")
    dialogues, _, _ = read_all(path)
    assert dialogues[0].turns == turns("I have a cough.", "Since when?")


@pytest.mark.parametrize("packed", [None, "gzip", "zstd"])
def test_a_packed_file_is_read_as_if_it_were_plain(tmp_path: Path, packed: str | None) -> None:
    raw, path = jsonl(pair(), pair(number=2)), tmp_path / "download"
    path.write_bytes(pyarrow.compress(raw, codec=packed, asbytes=True) if packed else raw)
    assert source_file(path).packed == packed
    assert list(file_rows(path)) == [pair(), pair(number=2)]
    assert list(text_lines(source_file(path))) == raw.decode().splitlines(keepends=True)


def test_a_folder_is_read_for_every_format_by_its_ending() -> None:
    assert {".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".txt"} == set(ENDINGS)


def test_json_is_decoded_row_by_row_whatever_the_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "list.json"
    path.write_text(json.dumps([{"n": number, "text": "x" * number} for number in range(60)] + [12345]))
    whole = list(json_rows(source_file(path)))
    monkeypatch.setattr("medsft.data.reading.text_formats.CHUNK", 7)
    assert list(json_rows(source_file(path))) == whole == json.loads(path.read_text())


def test_lines_and_tables_give_rows_or_name_what_is_no_text(tmp_path: Path) -> None:
    assert parse_line('{"a": 1}') == {"a": 1} and parse_line("{a}") == "{a}"
    assert isinstance(parse_line("\udcff"), NotUtf8)
    path = tmp_path / "x.csv"
    path.write_text("a;b\n1;2\n")
    assert list(csv_rows(source_file(path), ";")) == [{"a": "1", "b": "2"}]
    texts = pyarrow.array([b"ok", b"\xff"]).view(pyarrow.string())
    good, bad = batch_rows(pyarrow.RecordBatch.from_arrays([texts], names=["a"]))
    assert good == {"a": "ok"} and isinstance(bad, NotUtf8)
