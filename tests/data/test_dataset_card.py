"""The dataset card and the Croissant description."""

import hashlib
import json
from pathlib import Path

import pytest
import yaml

import corpus
from medsft.arguments import DataArguments
from medsft.data.dataset_card import croissant, dataset_card
from medsft.data.groups.splitting import SPLITS
from medsft.data.prepare import prepare
from medsft.data.split_files import load_split
from medsft.records import DataReport


def report() -> DataReport:
    counts = {"rows": 10, "groups": 9}
    tokens = {"prompt": 60, "answer": 40, "total": 100, "max": 30}
    return {
        "rows_read": 40,
        "rows_kept": 30,
        "dropped": {"exact_duplicate": 10},
        "repaired": {},
        "redacted": {"DOCTOR": 3},
        "duplicates": {"exact": 10, "near": 2, "groups": 27},
        "splits": dict.fromkeys(SPLITS, counts),
        "tokens": dict.fromkeys(SPLITS, tokens),
        "truncated": {"prompt": 4, "answer": 0},
        "leaking": 0,
        "sources": {"clinic": {"read": 40, "rejected": 0, "exact": 10, "near": 2, "kept": 30}},
        "lengths": [],
        "samples": {},
        "seconds": {},
        "inputs": "i",
        "arguments": {"split": "groups", "near_duplicate": 0.7, "max_length": 512, "seed": 42},
        "template_sha256": "t",
        "fingerprint": "0123456789abcdef",
    }


def test_the_card_states_the_numbers_of_the_report() -> None:
    card = dataset_card(report())
    assert yaml.safe_load(card.split("---")[1])["size_categories"] == "n<1K"
    assert "40 rows read, 30 kept" in card and "| train | 10 | 9 | 100 | 40 |" in card
    assert "Dropped: exact duplicate 10." in card and "Repaired: nothing." in card
    assert "seed 42" in card and "held-out rows share a group" not in card
    study = report()
    study["arguments"] |= {"split": "study"}
    study["leaking"] = 7
    assert "7 held-out rows share a group" in dataset_card(study)


def test_the_croissant_description_holds_the_hash_of_each_file(tmp_path: Path) -> None:
    for name in SPLITS:
        (tmp_path / f"{name}.parquet").write_bytes(name.encode())
    described = croissant(tmp_path, report())
    assert [file["sha256"] for file in described["distribution"]] == [
        hashlib.sha256(name.encode()).hexdigest() for name in SPLITS
    ]
    assert described["identifier"] == "0123456789abcdef"


@pytest.mark.slow
def test_cards_describe_the_files_beside_them(tmp_path: Path) -> None:
    source = corpus.write(tmp_path / "generated.jsonl", 600)
    made = prepare(DataArguments(study_dir=str(tmp_path), data=[str(source)]))
    folder = tmp_path / "data"
    card = (folder / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    files = {item["path"] for item in head["configs"][0]["data_files"]}
    described = json.loads((folder / "croissant.json").read_text())
    assert (
        files
        == {item["contentUrl"] for item in described["distribution"]}
        == {p.name for p in folder.glob("*.parquet")}
    )
    columns = {field["name"] for field in described["recordSet"][0]["field"]}
    assert columns == set(load_split(str(tmp_path), "train").column_names)
    assert made["fingerprint"] in card and f"{made['rows_kept']} kept" in card
    assert "{{" not in card and "copyright" in card
