"""Sources: files, folders, globs, hub datasets, several together; official splits and draws."""

from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict

from conftest import read_all
from corpus import jsonl, pair
from medsft.arguments import DataArguments
from medsft.data.reading.sources import parts_of, read_dialogues
from medsft.errors import UserError


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


@pytest.mark.parametrize("name", ["missing.jsonl", "./nowhere", "/no/such/place", "missing.csv"])
def test_a_path_that_does_not_exist_is_not_sought_on_the_hub(name: str) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_all(name)


def test_max_rows_draws_by_seed_and_keeps_row_numbers(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_bytes(jsonl(*[pair(patient_message=f"Cough number {number}") for number in range(1, 101)]))
    drawn = read_all(path, max_rows=10, seed=1)[0]
    assert [row.id for row in drawn] == [row.id for row in read_all(path, max_rows=10, seed=1)[0]]
    assert [row.id for row in drawn] != [row.id for row in read_all(path, max_rows=10, seed=2)[0]]
    assert all(row.turns[0]["content"] == f"Cough number {row.id.split(':')[1]}" for row in drawn)
