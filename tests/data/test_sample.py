"""The embedded dialogues are what their data card says, and the data stage finds what is planted in them."""

import csv
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from medsft.arguments import DataArguments
from medsft.data.prepare import prepare
from medsft.data.reading.sources import SAMPLE
from medsft.data.split_files import load_split

COLUMNS = {"patient_message", "doctor_response", "dialogue_context"}
URGENT = re.compile(
    r"emergency|ambulance|\b(?:999|911|112)\b|hospital|casualty|same[- ](?:very )?day|today|\bnow\b|tonight", re.I
)
FORMULA = re.compile(
    r"MediAsk|HealthQuery|AskDocNow|-->|>>|for (?:your|posting your) (?:query|question)|hope this (?:answers|helps)",
    re.I,
)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def labels() -> list[dict[str, str]]:
    with (SAMPLE.parent / "labels.csv").open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    study = tmp_path_factory.mktemp("study")
    return {**prepare(DataArguments(study_dir=str(study))), "study_dir": str(study)}


@pytest.fixture(scope="module")
def prepared(report: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """Kept rows by row number, with the name of their split."""
    kept = {}
    for name in ("train", "dev", "test"):
        for row in load_split(report["study_dir"], name):
            kept[int(row["id"].split(":")[1])] = {**row, "split": name}
    return kept


def planted(labels: list[dict[str, str]], kind: str) -> list[int]:
    return [int(label["row"]) for label in labels if kind in label["planted"].split(";")]


def doctor(row: dict[str, Any]) -> str:
    return "\n".join(message["content"] for message in row["messages"] if message["role"] == "assistant")


def test_size_variety_and_labels(rows: list[dict[str, Any]], labels: list[dict[str, str]]) -> None:
    assert len(rows) == len(labels) >= 300
    assert [label["row"] for label in labels] == [str(number) for number in range(1, len(rows) + 1)]
    assert min(Counter(label["specialty"] for label in labels).values()) >= 8
    assert len({label["specialty"] for label in labels}) >= 25
    assert sum(label["multi_turn"] == "true" for label in labels) >= 40
    assert sum(label["urgent"] == "true" for label in labels) >= 40
    for row, label in zip(rows, labels, strict=True):
        assert bool(row["dialogue_context"]) == (label["multi_turn"] == "true")
        assert set(row) == COLUMNS or "broken" in label["planted"]


def test_red_flags_are_answered_with_urgency(rows: list[dict[str, Any]], labels: list[dict[str, str]]) -> None:
    for row, label in zip(rows, labels, strict=True):
        if label["urgent"] == "true":
            first = " ".join(re.split(r"(?<=[.!?])\s+", row["doctor_response"])[:5])
            assert URGENT.search(first), f"row {label['row']}"


def test_no_filler_is_repeated(rows: list[dict[str, Any]], labels: list[dict[str, str]]) -> None:
    seen: Counter[str] = Counter()
    for row, label in zip(rows, labels, strict=True):
        if not {"near_duplicate", "exact_duplicate", "boilerplate", "broken"} & set(label["planted"].split(";")):
            sentences = re.split(r"(?<=[.!?])\s+|\n+", row["doctor_response"])
            seen.update({sentence for sentence in sentences if len(sentence.split()) >= 6})
    assert seen.most_common(1)[0][1] == 1


def test_the_card_counts_what_is_there(labels: list[dict[str, str]]) -> None:
    card = (SAMPLE.parent / "DATA_CARD.md").read_text(encoding="utf-8")
    assert "Apache-2.0" in card and "Not medical advice" in card
    for kind in ("boilerplate", "boilerplate_only", "doctor_name", "near_duplicate", "exact_duplicate", "broken"):
        assert f"| `{kind}` | {len(planted(labels, kind))} |" in card
    for specialty, count in Counter(label["specialty"] for label in labels).items():
        assert f"{specialty} {count}" in " ".join(card.split())


def test_broken_rows_and_empty_boilerplate_are_dropped(
    labels: list[dict[str, str]], report: dict[str, Any], prepared: dict[int, Any]
) -> None:
    lines = (Path(report["study_dir"]) / "data" / "dropped.jsonl").read_text().splitlines()
    dropped = [json.loads(line) for line in lines]
    assert [row["row"] for row in dropped if "file" in row] == planted(labels, "broken")
    assert len(dropped) == sum(report["dropped"].values())
    assert not set(planted(labels, "boilerplate_only")) & set(prepared)
    assert report["dropped"]["boilerplate_only"] == len(planted(labels, "boilerplate_only")) == 4
    assert report["rows_read"] == report["rows_kept"] + sum(report["dropped"].values())


def test_duplicates_are_found(labels: list[dict[str, str]], report: dict[str, Any], prepared: dict[int, Any]) -> None:
    assert report["duplicates"]["exact"] == len(planted(labels, "exact_duplicate")) == 4
    near = planted(labels, "near_duplicate")
    assert len(near) >= 10
    groups = Counter(row["group"] for row in prepared.values())
    assert all(groups[prepared[number]["group"]] >= 2 for number in near)
    assert sum(count - 1 for count in groups.values()) == len(near), "no unrelated rows share a group"


def test_no_group_is_on_two_sides(prepared: dict[int, Any], report: dict[str, Any]) -> None:
    sides: dict[str, set[str]] = {}
    for row in prepared.values():
        sides.setdefault(row["group"], set()).add(row["split"])
    assert all(len(names) == 1 for names in sides.values())
    assert report["splits"]["test"]["rows"] >= 40


def test_no_test_question_is_nearly_one_of_train(prepared: dict[int, Any]) -> None:
    """By brute force over words, without the hashing that made the groups."""

    def triples(row: dict[str, Any]) -> set[tuple[str, ...]]:
        words = re.findall(r"\w+", row["messages"][0]["content"].lower())
        return set(zip(words, words[1:], words[2:], strict=False))

    train = [parts for row in prepared.values() if row["split"] == "train" and (parts := triples(row))]
    for number, row in prepared.items():
        if row["split"] == "test" and (parts := triples(row)):
            closest = max(len(parts & other) / len(parts | other) for other in train)
            assert closest < 0.7, f"row {number}"


def test_boilerplate_is_gone_and_the_answer_is_not(
    rows: list[dict[str, Any]], labels: list[dict[str, str]], prepared: dict[int, Any]
) -> None:
    framed = planted(labels, "boilerplate")
    assert len(framed) >= 20
    for number in framed:
        answer = prepared[number]["messages"][-1]["content"]
        assert not FORMULA.search(answer), f"row {number}"
        assert "[PLATFORM]" not in answer, f"row {number}"
        assert len(answer) > 0.5 * len(rows[number - 1]["doctor_response"])


GREETED = re.compile(
    r"\A(?:Hello|Hi|Hey|Dear|Good (?:morning|evening))(?: (?:there|user|sir|madam|doctor))?(?:[.!]|,?\n)"
)


def test_rows_without_boilerplate_keep_every_word_but_a_greeting(
    rows: list[dict[str, Any]], labels: list[dict[str, str]], prepared: dict[int, Any]
) -> None:
    for number in set(prepared) & {int(label["row"]) for label in labels if not label["planted"]}:
        kept = re.sub(r"\[\w+\]", "", prepared[number]["messages"][-1]["content"])
        written = GREETED.sub("", rows[number - 1]["doctor_response"])
        assert kept.split() == written.split(), f"row {number}"


@pytest.mark.parametrize(
    ("kind", "placeholder", "leak"),
    [
        ("doctor_name", "[DOCTOR]", r"\b[Dd]r\.? [A-Z][a-z]+"),
        ("patient_name", "[PATIENT]", r"Wrenfield|Underlocke|Garrow|Fennimore|Amberley|Thistlewhit"),
        ("url", "[URL]", r"https?:|www\."),
        ("phone", "[PHONE]", r"555|7946"),
        ("email", "[EMAIL]", r"@"),
        ("markup", "", r"<\w+|&\w+;|â€"),
    ],
)
def test_identifiers_and_markup_are_found(
    rows: list[dict[str, Any]],
    labels: list[dict[str, str]],
    prepared: dict[int, Any],
    kind: str,
    placeholder: str,
    leak: str,
) -> None:
    numbers = planted(labels, kind)
    assert len(numbers) >= 4
    under = f"({leak})[^.]*$" if kind == "doctor_name" else "(?!)"
    signed = {number for number in numbers if re.search(under, rows[number - 1]["doctor_response"])}
    assert len(signed) >= 4 or kind != "doctor_name"
    for number in numbers:
        whole = "\n".join(message["content"] for message in prepared[number]["messages"])
        assert placeholder in whole or number in signed, f"row {number}"  # a signature goes with its placeholder
        assert not re.search(leak, whole), f"row {number}"
