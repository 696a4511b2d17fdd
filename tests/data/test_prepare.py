"""The data stage as a whole: what is cached, what is switched off, the study's preset."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

import corpus
from conftest import RECIPES
from medsft.arguments import DataArguments
from medsft.config import parse
from medsft.data.groups.near_duplicates import jaccard, opening, shingles
from medsft.data.prepare import prepare
from medsft.data.rules.cleaning import RULES as CLEANING_RULES
from medsft.data.rules.deidentification import RULES as IDENTIFIER_RULES
from medsft.data.split_files import load_split
from medsft.errors import UserError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus.write(tmp_path_factory.mktemp("corpus") / "generated.jsonl", 600)


def cached(study: Path) -> dict[str, str]:
    """{transform: name of its file}."""
    return {path.name.split("-")[0]: path.name for path in (study / ".cache").glob("*.arrow")}


def test_a_change_redoes_only_what_depends_on_it(tmp_path: Path) -> None:
    source = corpus.write(tmp_path / "small.jsonl", 60)
    base: dict[str, Any] = {"study_dir": str(tmp_path), "data": [str(source)], "workers": 1}
    first = prepare(DataArguments(**base))
    before = cached(tmp_path)
    assert set(before) == {"read", "clean", "deidentify", "keys", "tokens"}

    def changed(**options: Any) -> set[str]:
        prepare(DataArguments(**base, **options))
        after = cached(tmp_path)
        return {name for name in after if after[name] != before[name]}

    assert changed(near_duplicate=0.8) == set()
    assert changed(max_length=400) == {"tokens"}
    assert changed(skip_rules=["phone"]) == {"deidentify", "keys", "tokens"}
    assert changed(skip_rules=["advert"]) == {"clean", "deidentify", "keys", "tokens"}
    again = prepare(DataArguments(**base))
    assert again["fingerprint"] == first["fingerprint"]
    assert {key for key in first if again[key] != first[key]} <= {"seconds"}


@pytest.mark.slow
def test_more_processes_give_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Path) -> None:
    one = prepare(DataArguments(study_dir=str(tmp_path / "one"), data=[str(source)], workers=1))
    monkeypatch.setattr("medsft.data.pipeline.SMALL", 200)
    two = prepare(DataArguments(study_dir=str(tmp_path / "two"), data=[str(source)], workers=2))
    assert two["fingerprint"] == one["fingerprint"]
    assert len(list((tmp_path / "two" / ".cache").glob("clean-*.arrow"))) == 2


def test_no_test_row_has_a_near_duplicate_in_train(tmp_path: Path, source: Path) -> None:
    """By brute force at the stated threshold."""
    report = prepare(DataArguments(study_dir=str(tmp_path), data=[str(source)], near_duplicate=0.6))
    assert report["duplicates"]["near"] >= 10 and report["duplicates"]["exact"] >= 2 and report["leaking"] == 0
    sides = {
        name: [shingles(opening(row["messages"])) for row in load_split(str(tmp_path), name)]
        for name in ("train", "dev", "test")
    }
    for name in ("dev", "test"):
        assert max(jaccard(held, trained) for held in sides[name] for trained in sides["train"]) < 0.6


def test_every_rule_is_named_sampled_and_can_be_left_out(tmp_path: Path, source: Path) -> None:
    args = DataArguments(study_dir=str(tmp_path), data=[str(source)])
    report = prepare(args)
    fired = {"spaces", "dangling_arrow", "advert", "opening_formula", "closing_formula"}
    assert fired <= set(report["samples"]) <= {*CLEANING_RULES, *IDENTIFIER_RULES}
    assert {"email", "url", "phone", "record_number", "doctor_name", "patient_name", "platform"} <= set(
        report["samples"]
    )
    shown = json.dumps(report["samples"])
    assert all(sample["before"] != sample["after"] for sample in report["samples"].values())
    assert not re.search(r"Wrenfield|Quillfeather|example\.org|555|4839201|HealthCareMagic", shown)
    args.skip_rules = ["all"]
    report = prepare(args)
    assert (report["repaired"], report["redacted"], report["samples"]) == ({}, {}, {})
    args.skip_rules = ["closing_formulas"]
    with pytest.raises(UserError, match="no rule 'closing_formulas': did you mean 'closing_formula'"):
        prepare(args)


def test_rows_add_up_for_every_source(tmp_path: Path, source: Path) -> None:
    (tmp_path / "faq.csv").write_text(
        "patient_message,doctor_response\n" + "".join(f"What is w{n} and x{n} and y{n}?,z{n}\n" for n in range(40))
    )
    report = prepare(DataArguments(study_dir=str(tmp_path), data=[str(source), str(tmp_path / "faq.csv")]))
    assert set(report["sources"]) == {"generated", "faq"}
    assert report["sources"]["faq"] == {"read": 40, "rejected": 0, "exact": 0, "near": 0, "kept": 40}
    assert sum(part["read"] for part in report["sources"].values()) == report["rows_read"] == 640
    assert report["rows_read"] == report["rows_kept"] + sum(report["dropped"].values())
    test = load_split(str(tmp_path), "test")
    assert sum(name == "faq" for name in test["source"]) == 8


@pytest.mark.slow
def test_the_studys_preset_reproduces_its_numbers(tmp_path: Path) -> None:
    path = corpus.write(tmp_path / "meddialog.jsonl", 12_500)
    config = RECIPES / "configs" / "mistral_7b" / "data_paper.yaml"
    (args,) = parse([DataArguments], argv=["--config", str(config), "--study_dir", str(tmp_path / "study")])
    args.data, args.model_name_or_path = [str(path)], "embedded/SmolLM2-135M-Instruct"
    report = prepare(args)
    assert {name: part["rows"] for name, part in report["splits"].items()} == {
        "train": 10_200,
        "dev": 1_800,
        "test": report["rows_kept"] - 12_000,
    }
    assert report["truncated"] == {"prompt": 0, "answer": 0}
    assert report["leaking"] > 100
    assert report["repaired"] == report["redacted"] == {}
    numbers = [
        int(row.split(":")[1])
        for row in [*load_split(args.study_dir, "train")["id"], *load_split(args.study_dir, "dev")["id"]]
    ]
    assert max(numbers) < 12_100  # the first 12,000 usable ones
