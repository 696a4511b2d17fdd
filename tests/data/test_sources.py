"""Sources: every shape by its content, packed or not, several together; damaged files and bad rows are named."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from datasets import Dataset, DatasetDict

from conftest import read_all, run_script
from medsft.arguments import DataArguments
from medsft.data.reading.sources import parts_of, read_dialogues
from medsft.errors import UserError

TURNS = [("user", "My ear hurts."), ("assistant", "Since when?"), ("user", "May."), ("assistant", "See a doctor.")]
PAIR = TURNS[:2]
DUMP = """id=1
https://www.example.org/1
Description
Doctor wrote id=7
Dialogue
Patient:
My ear hurts.
Doctor:
Since when?
Patient: May.

Doctor:
See a doctor.

id=2
Description
x
Dialogue
Patient:
My ear hurts.

Doctor:
Since when?
"""


def pair(**more: Any) -> dict[str, Any]:
    return {"patient_message": "My ear hurts.", "doctor_response": "Since when?", **more}


def jsonl(*rows: Any) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


SPOKEN = [{"user": "patient", "assistant": "doctor"}[role] + ": " + text for role, text in TURNS]
SHAPES = {
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
        {"messages": [{"role": "system", "content": "Be kind."}, *[{"role": r, "content": t} for r, t in TURNS]]},
        TURNS,
    ),
    "sharegpt": (
        {"conversations": [{"from": "human" if r == "user" else "gpt", "value": t} for r, t in TURNS]},
        TURNS,
    ),
    "mts": ({"ID": 1, "section_header": "CC", "dialogue": "Doctor: Hello.\n" + "\n".join(SPOKEN)}, TURNS),
}


@pytest.mark.parametrize("packed", ["plain", "gzip", "zstd"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_told_by_its_content(tmp_path: Path, shape: str, packed: str) -> None:
    row, turns = SHAPES[shape]
    content = {
        "plain": bytes,
        "gzip": gzip.compress,
        "zstd": lambda raw: pyarrow.compress(raw, codec="zstd", asbytes=True),
    }[packed](jsonl(row, row))
    path = tmp_path / "download"  # the name says nothing
    path.write_bytes(content)
    dialogues, rejected, _ = read_all(path)
    assert not rejected
    assert [dialogue.turns for dialogue in dialogues] == [turns, turns]


def test_the_original_text_dump_keeps_dialogues_whole(tmp_path: Path) -> None:
    (tmp_path / "dump").write_text(DUMP)
    assert [dialogue.turns for dialogue in read_all(tmp_path / "dump")[0]] == [TURNS, PAIR]


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
    assert [dialogue.turns for dialogue in dialogues] == [PAIR, PAIR]


def test_a_folder_with_splits_keeps_its_test_split(tmp_path: Path) -> None:
    splits = {"train": [pair(), pair()], "test": [pair()]}
    folder = tmp_path / "corpus"
    DatasetDict({name: Dataset.from_list(rows) for name, rows in splits.items()}).save_to_disk(str(folder))
    (folder / "README.md").write_text("not data")
    dialogues, _, _ = read_all(folder)
    assert sorted(dialogue.official for dialogue in dialogues) == ["", "", "test"]
    assert {dialogue.source for dialogue in dialogues} == {"corpus"}
    assert len({dialogue.id for dialogue in dialogues}) == 3
    assert {dialogue.official for dialogue in read_all(folder, official_split=False)[0]} == {""}


def test_a_validation_split_alone_is_the_one_held_out_and_a_lone_file_is_none(tmp_path: Path) -> None:
    for name in ("train-00000-of-00001.jsonl", "validation-00000-of-00001.jsonl"):
        (tmp_path / name).write_bytes(jsonl(pair()))
    assert [dialogue.official for dialogue in read_all(tmp_path)[0]] == ["", "test"]
    assert read_all(tmp_path / "validation-00000-of-00001.jsonl")[0][0].official == ""


def test_a_glob_and_several_sources_keep_their_source(tmp_path: Path) -> None:
    for name in ("icliniq-1.jsonl", "icliniq-2.jsonl", "other.csv"):
        (tmp_path / name).write_bytes(
            b"Patient,Doctor\nIt hurts.,Rest.\n" if name.endswith("csv") else jsonl(pair(), pair())
        )
    dialogues, _, _ = read_all([tmp_path / "icliniq-*.jsonl", tmp_path / "other.csv"])
    assert [dialogue.source for dialogue in dialogues] == ["icliniq-1"] * 2 + ["icliniq-2"] * 2 + ["other"]


def test_weights_set_the_shares_and_no_row_comes_twice(tmp_path: Path) -> None:
    for name, count in (("a", 30), ("b", 100)):
        (tmp_path / f"{name}.jsonl").write_bytes(jsonl(*[pair(number=n) for n in range(count)]))
    names = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    dialogues, _, _ = read_all(names, weights=[1, 2])
    assert len({dialogue.id for dialogue in dialogues}) == len(dialogues) == 90
    assert sum(dialogue.source == "a" for dialogue in dialogues) == 30
    assert len(read_all(names, weights=[1, 2], max_rows=30)[0]) == 30
    with pytest.raises(UserError, match="one number above 0 for each of the 2 sources"):
        read_all(names, weights=[1])


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


def test_every_source_is_looked_at_before_any_is_read(tmp_path: Path) -> None:
    (tmp_path / "known.jsonl").write_bytes(jsonl(*[pair()] * 5))
    (tmp_path / "other.csv").write_text("question,answer\nMy ear hurts.,Since when?\n")
    args = DataArguments(data=[str(tmp_path / "known.jsonl"), str(tmp_path / "other.csv")])
    with pytest.raises(UserError, match="other.csv: found the columns question, answer"):
        next(read_dialogues(args, parts_of(args)))


def test_hub_splits_are_read_and_the_official_one_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = {"train": Dataset.from_list([pair(), pair()]), "validation": Dataset.from_list([pair()])}
    monkeypatch.setattr("datasets.load_dataset", lambda name: splits)
    dialogues, _, _ = read_all("OpenMed/MedDialog")
    assert [(row.id, row.source, row.official) for row in dialogues] == [
        ("OpenMed/MedDialog/train:1", "OpenMed/MedDialog", ""),
        ("OpenMed/MedDialog/train:2", "OpenMed/MedDialog", ""),
        ("OpenMed/MedDialog/validation:1", "OpenMed/MedDialog", "test"),
    ]
    with pytest.raises(UserError, match="no split 'training'.*it has train, validation"):
        read_all("OpenMed/MedDialog", data_split="training")


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
