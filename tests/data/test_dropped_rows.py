"""Every row that is in no split is in dropped.jsonl, with its reason and its words."""

import json
from collections import Counter
from pathlib import Path

import pytest
from datasets import Dataset

from corpus import jsonl, pair, turns
from medsft.arguments import DataArguments
from medsft.data.data_report import SplitRows, Tables
from medsft.data.dropped_rows import dropped_rows, write_dropped
from medsft.data.groups.grouping import Row
from medsft.data.loss_preview import dropped_of_each_reason
from medsft.data.prepare import check_any_left, check_rejected
from medsft.data.reading.dialogue import Rejected
from medsft.errors import UserError


@pytest.fixture
def tables() -> Tables:
    """Rows 1 to 6: dropped by cleaning, kept, a copy, over budget, in a longer row, near an official split."""
    said = [turns(f"Mail a{n}@x.org", "Rest.") for n in range(6)]
    hidden = [turns("Mail [EMAIL]", "Rest.") for _ in range(6)]
    read = Dataset.from_dict({"id": [f"mine:{n + 1}" for n in range(6)], "source": ["mine"] * 6, "turns": said})
    cleaned = Dataset.from_dict({"dropped": ["boilerplate_only", *[""] * 5]})
    redacted = Dataset.from_dict({"dropped": [""] * 6, "turns": [[], *hidden[1:]]})
    fitted = Dataset.from_dict({"prompt_tokens": [0, 5, 5, 0, 5, 5]})
    return Tables(read, cleaned, redacted, redacted, read, fitted)


def test_each_row_has_its_reason_and_no_identifier(tmp_path: Path, tables: Tables) -> None:
    row = {n: Row(n, str(n), "mine") for n in range(1, 6)}
    unique = [row[n] for n in (1, 3, 4, 5)]
    split = SplitRows([*row.values()], unique, Counter(), {"train": [row[1]]}, "near_official_split", [row[4]])
    bad = Rejected("mine.csv", 9, "doctor", "null", "mine", '{"doctor": null, "patient": "b@x.org"}')
    write_dropped(tmp_path / "d.jsonl", dropped_rows(tables, [bad], split, [], "standard"))
    rows = [json.loads(line) for line in (tmp_path / "d.jsonl").read_text().splitlines()]
    assert [(row["row"], row["reason"], row["source"]) for row in rows] == [
        (9, "null", "mine"),
        (1, "boilerplate_only", "mine"),
        (3, "exact_duplicate", "mine"),
        (4, "over_budget", "mine"),
        (5, "in_longer_row", "mine"),
        (6, "near_official_split", "mine"),
    ]
    assert rows[0]["file"] == "mine.csv" and rows[0]["text"] == '{"doctor": null, "patient": "[EMAIL]"}'
    assert {row["text"] for row in rows[1:]} == {"Patient: Mail [EMAIL]\nDoctor: Rest."}
    shown = dropped_of_each_reason(tmp_path / "d.jsonl", 3)
    assert [row["reason"] for row in shown] == ["null", "boilerplate_only", "exact_duplicate"]
    assert len(dropped_of_each_reason(tmp_path / "d.jsonl", 99)) == 6


def test_a_corpus_of_which_nothing_is_left_names_a_remedy(tables: Tables) -> None:
    nothing = tables._replace(
        read=Dataset.from_dict({"id": ["a:1", "a:2"]}),
        cleaned=Dataset.from_dict({"dropped": ["boilerplate_only", ""]}),
        redacted=Dataset.from_dict({"dropped": ["", "signature_only"]}),
    )
    args = DataArguments(data=["mine.csv"])
    with pytest.raises(UserError, match=r"no row is left of 2: .*--skip_rules boilerplate_only sign_off"):
        check_any_left(nothing, 0, args)
    none = Dataset.from_dict({"dropped": []}).cast_column("dropped", nothing.read.features["id"])
    with pytest.raises(UserError, match="no row was drawn; raise --max_rows"):
        check_any_left(nothing._replace(cleaned=none, redacted=none), 0, args)
    check_any_left(nothing, 1, args)


@pytest.mark.parametrize(("count", "offered"), [(2, True), (4, False)])
def test_more_rejected_rows_are_offered_only_where_that_helps(count: int, offered: bool) -> None:
    rejected = [Rejected("a.csv", n, "", "not_utf8") for n in range(count)]
    with pytest.raises(UserError, match="iconv -f WINDOWS-1252 -t UTF-8") as caught:
        check_rejected(rejected, 4, 0.2, Path("x"))
    assert ("--max_rejected 1" in str(caught.value)) is offered
    if offered:
        check_rejected(rejected, 4, 1, Path("x"))


@pytest.mark.slow
def test_the_remedies_of_prepare_work_when_they_are_followed(tmp_path: Path) -> None:
    from conftest import run_here
    from medsft.data.prepare import prepare

    advert = "Hi. For further doubts consult an andrologist online -->"
    rows = [pair(patient_message=f"{'w' * n} hurts at {n} o'clock", doctor_response=advert) for n in range(1, 21)]
    (tmp_path / "adverts.jsonl").write_bytes(jsonl(*rows))
    options = {"data": [str(tmp_path / "adverts.jsonl")], "study_dir": str(tmp_path / "s"), "workers": 1}
    with pytest.raises(UserError, match="--skip_rules boilerplate_only,"):
        prepare(DataArguments(**options))
    report = prepare(DataArguments(**options, skip_rules=["boilerplate_only"]))
    assert report["rows_kept"] == 20 and report["deidentification"]["held_out"]["recall"]["all"]["n"] > 50
    with pytest.raises(UserError, match="--max_length 512"):
        prepare(DataArguments(**options, skip_rules=["boilerplate_only"], max_length=8))
    done = run_here("prepare_data.py", "--seed", -1, "--study_dir", tmp_path / "s")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1) and "seed must be between 0" in done.stderr


@pytest.mark.slow
def test_a_consultation_that_the_doctor_opened_is_trained_on_once(tmp_path: Path) -> None:
    """Rows as in MTS-Dialog: one for each answer, with the turns before it."""
    from medsft.data.prepare import prepare
    from medsft.data.reading.dialogue import BEGINS
    from medsft.data.split_files import load_split

    rows = []
    for number in range(12):
        said = [f"What brings you in today, visitor {number}?"]
        for turn in range(4):
            asked, answered = (
                f"It is the {'knee ' * number}ache of week {turn}",
                f"Then {turn} plasters, number {number}.",
            )
            rows.append(pair(patient_message=asked, doctor_response=answered, dialogue_context=context(said)))
            said += [asked, answered]
    (tmp_path / "turns.jsonl").write_bytes(jsonl(*rows))
    options = {"data": [str(tmp_path / "turns.jsonl")], "workers": 1, "near_duplicate": 1.0}
    once = prepare(DataArguments(**options, study_dir=str(tmp_path / "once")))
    train = load_split(str(tmp_path / "once"), "train")
    assert once["answers"]["train"] == {"with_loss": 5 * len(train), "times": 5 * len(train)}
    assert once["dropped"] == {"in_longer_row": 3 * (len(train) + once["splits"]["dev"]["rows"])}
    assert once["rows_read"] == once["rows_kept"] + sum(once["dropped"].values())
    for row in train:
        assert row["messages"][0]["content"] == BEGINS and row["messages"][1]["content"].startswith(
            "What brings you in"
        )
    assert once["splits"]["test"] == {
        "rows": 4 * once["splits"]["test"]["groups"],
        "groups": once["splits"]["test"]["groups"],
    }
    every = prepare(DataArguments(**options, study_dir=str(tmp_path / "every"), answers_once=False))
    assert every["rows_kept"] == 48 and every["answers"]["train"]["times"] > 2 * every["answers"]["train"]["with_loss"]


def context(said: list[str]) -> str:
    return "\n".join(f"{'Patient' if n % 2 else 'Doctor'}: {text}" for n, text in enumerate(said))


@pytest.mark.slow
def test_a_terminal_without_chinese_characters_shows_rows(tmp_path: Path) -> None:
    import os
    import subprocess
    import sys

    from conftest import RECIPES

    complaints = (
        "头痛三天了",
        "左膝盖肿胀",
        "耳朵听不清",
        "晚上睡不着",
        "皮肤很痒",
        "牙龈出血",
        "腹泻四次",
        "咳嗽有痰",
    )
    rows = [pair(patient_message=text, doctor_response=f"建议休息{n}天。") for n, text in enumerate(complaints)]
    (tmp_path / "zh.jsonl").write_bytes(jsonl(*rows, pair(doctor_response=None)))
    command = [sys.executable, str(RECIPES / "prepare_data.py"), "--data", str(tmp_path / "zh.jsonl"), "--preview", "2"]
    done = subprocess.run(
        [*command, "--study_dir", str(tmp_path / "s")],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
    )
    assert done.returncode == 0, done.stderr
    assert b"dropped: null" in done.stdout and b"8 zh" in done.stdout
