"""The data stage as a user runs it: files, report, re-runs, refusals."""

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from medsft.arguments import DataArguments
from medsft.data.prepare import prepare
from medsft.data.rules.cleaning import RULES as CLEANING_RULES
from medsft.data.rules.deidentification import RULES as IDENTIFIER_RULES
from medsft.data.split_files import load_split
from medsft.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
KEYS = {"rows_read", "rows_kept", "dropped", "repaired", "redacted", "duplicates", "splits", "tokens", "truncated"}
TOPICS = ["ear", "knee", "back", "throat", "elbow", "ankle", "wrist", "shoulder", "hip", "neck", "thumb", "heel"]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def some_rows() -> list[dict[str, Any]]:
    return [
        {
            "patient_message": f"My {topic} has hurt since the {day} of May and {topic} swelling comes at night, why?",
            "doctor_response": f"Rest the {topic}. Hope this helps. Regards, Dr. Elvira Quill",
        }
        for day, topic in enumerate(TOPICS, 1)
    ]


def script(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "recipes" / "prepare_data.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)


def test_the_files_and_the_report_agree(tmp_path: Path) -> None:
    rows = [*some_rows(), some_rows()[0], {"patient_message": None, "doctor_response": "Rest."}]
    report = prepare(DataArguments(study_dir=str(tmp_path / "study"), data=[str(write(tmp_path / "mine.jsonl", rows))]))
    data = tmp_path / "study" / "data"
    assert KEYS | {"fingerprint", "arguments", "template_sha256"} <= set(report)
    assert report == json.loads((data / "data_report.json").read_text())
    assert report["rows_read"] == 14 == report["rows_kept"] + sum(report["dropped"].values())
    assert report["dropped"] == {"exact_duplicate": 1, "null": 1}
    assert report["redacted"] == {"DOCTOR": 13}
    assert report["repaired"]["closing_formula"] == report["repaired"]["sign_off"] == 13
    assert report["truncated"] == {"prompt": 0, "answer": 0}
    null, copy = [json.loads(line) for line in (data / "dropped.jsonl").read_text().splitlines()]
    assert json.loads(null.pop("text"))["patient_message"] is None
    assert null == {"file": "mine.jsonl", "row": 14, "field": "patient_message", "reason": "null", "source": "mine"}
    assert copy["reason"] == "exact_duplicate" and copy["text"].startswith("Patient: ")
    for name, part in report["splits"].items():
        table = pyarrow.parquet.read_table(data / f"{name}.parquet")
        assert table.column_names == ["id", "source", "group", "messages", "prompt_tokens", "answer_tokens"]
        assert str(table.schema.field("messages").type) == "list<element: struct<role: string, content: string>>"
        assert part == {"rows": table.num_rows, "groups": len(set(table["group"].to_pylist()))}
        assert report["tokens"][name]["answer"] == sum(table["answer_tokens"].to_pylist())
    assert sum(report["lengths"]) == report["tokens"]["train"]["total"]


@pytest.mark.slow
def test_a_second_run_does_nothing_and_any_change_does_it_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "mine.jsonl", some_rows())
    args = DataArguments(study_dir=str(tmp_path / "study"), data=[str(source)])
    first = prepare(args)
    parquet = tmp_path / "study" / "data" / "train.parquet"
    before = parquet.stat().st_mtime_ns
    args.preview = 2
    assert prepare(args) == first
    assert "already done" in capsys.readouterr().out
    assert parquet.stat().st_mtime_ns == before
    write(source, some_rows()[:-1])
    assert prepare(args)["fingerprint"] != first["fingerprint"]
    args.seed = 7
    assert prepare(args)["rows_kept"] == 11
    assert sorted(path.name for path in (tmp_path / "study").iterdir()) == [".cache", "data"]


def test_the_token_budget_is_reported(tmp_path: Path) -> None:
    rows = some_rows()
    rows[0]["patient_message"] = "pain " * 300 + "in the ear"
    rows[1]["doctor_response"] = "Rest the knee and " * 200
    args = DataArguments(
        study_dir=str(tmp_path), data=[str(write(tmp_path / "mine.jsonl", rows))], max_length=128, dev_fraction=0.2
    )
    report = prepare(args)
    assert report["truncated"] == {"prompt": 1, "answer": 0}
    assert report["dropped"] == {"over_budget": 1}
    assert max(part["max"] for part in report["tokens"].values()) <= 128


def test_what_a_killed_run_left_goes_and_a_second_run_at_once_waits(tmp_path: Path) -> None:
    for name in (".data.0a1b2c3d.tmp", ".data.0a1b2c3d.old"):
        (tmp_path / name).mkdir()
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "read-0.tmp").write_bytes(b"half")
    args = DataArguments(study_dir=str(tmp_path), data=[str(write(tmp_path / "mine.jsonl", some_rows()))], workers=1)
    with ThreadPoolExecutor() as pool:
        first, second = pool.map(prepare, [args, args])
    assert first == second
    assert sorted(path.name for path in tmp_path.iterdir()) == [".cache", "data", "mine.jsonl"]
    assert not list((tmp_path / ".cache").glob("*.tmp"))


def test_a_split_loads_as_a_dataset_or_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="prepare_data.py --study_dir"):
        load_split(str(tmp_path), "train")
    prepare(DataArguments(study_dir=str(tmp_path), data=[str(write(tmp_path / "mine.jsonl", some_rows()))]))
    row = load_split(str(tmp_path), "train")[0]
    assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
    assert re.fullmatch(r"Rest the \w+\.", row["messages"][1]["content"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dev_fraction": 0.5, "test_fraction": 0.5}, "together below 1"),
        ({"max_length": 0}, "at least 1"),
        ({"near_duplicate": 1.5}, "near_duplicate"),
        ({"chat_template_path": "none.jinja"}, "none.jinja"),
        ({"model_name_or_path": "embedded/nothing"}, "not embedded"),
    ],
)
def test_impossible_options_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    args = DataArguments(study_dir=str(tmp_path), data=[str(write(tmp_path / "mine.jsonl", some_rows()))], **changes)
    with pytest.raises(UserError, match=message):
        prepare(args)


def test_too_many_bad_rows_stop_the_stage(tmp_path: Path) -> None:
    rows = [*some_rows(), *[{"patient_message": "Why?", "doctor_response": ""}] * 6]
    path = write(tmp_path / "mine.jsonl", rows)
    with pytest.raises(UserError, match=r"mine.jsonl: 6 of 18 rows .* row 13, field 'doctor_response': empty"):
        prepare(DataArguments(study_dir=str(tmp_path), data=[str(path)]))
    assert not (tmp_path / "data").exists()
    (listed,) = (tmp_path / ".cache").glob("read-*.jsonl")
    assert len(listed.read_text().splitlines()) == 6
    assert prepare(DataArguments(study_dir=str(tmp_path), data=[str(path)], max_rejected=0.5))["dropped"] == {
        "empty": 6
    }


def test_the_script_reports_and_previews_without_reading_markup(tmp_path: Path) -> None:
    rows = some_rows()
    for row in rows:
        row["patient_message"] += " [red]not a colour[/red] [/bold]"
    path = write(tmp_path / "mine.jsonl", [*rows, {"patient_message": "Is it flu?", "doctor_response": " "}])
    done = script("--data", str(path), "--study_dir", str(tmp_path / "study"), "--preview", "2")
    assert done.returncode == 0, done.stderr
    assert "13 read, 12 kept" in done.stdout
    (dropped,) = (tmp_path / "study" / "data" / "dropped.jsonl").read_text().splitlines()
    assert (json.loads(dropped)["row"], json.loads(dropped)["reason"]) == (13, "empty")
    assert "dropped: empty" in done.stdout
    assert done.stdout.count("tokens carry loss") == 2
    assert done.stdout.count("<|im_end|>") == 6
    assert "[red]not a colour[/red]" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.jsonl", b"", "empty.jsonl: the file is empty"),
        ("other.csv", b"question,answer\nIs it flu?,No.\n", "other.csv: found the columns question, answer"),
        (
            "latin.csv",
            b"patient_message,doctor_response\nfi\xe8vre,rest\n",
            "latin.csv: 1 of 1 rows cannot be used; the first is row 1, field 'patient_message': not utf8",
        ),
        ("missing.jsonl", None, "missing.jsonl: no such file"),
    ],
)
def test_the_script_refuses_an_unusable_file_with_status_2_and_one_line(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    done = script("--data", str(path), "--study_dir", str(tmp_path / "study"))
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: ") and message in done.stderr
    assert not (tmp_path / "study" / "data").exists()


def test_a_budget_over_the_models_positions_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    done = script("--data", str(tmp_path / "missing.jsonl"), "--study_dir", str(tmp_path / "s"), "--max_length", "8193")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "error: max_length 8193: model 'embedded/SmolLM2-135M-Instruct' has 8192 positions; use --max_length 8192"
    ]


SYSTEM = "You are a doctor for ears. My name is Elvira Quill."


def with_system() -> list[dict[str, Any]]:
    """Twelve rows of messages, of which the last has no system turn."""
    rows = []
    for row in some_rows():
        asked = {"role": "user", "content": row["patient_message"]}
        answer = {"role": "assistant", "content": row["doctor_response"]}
        rows.append({"messages": [{"role": "system", "content": SYSTEM}, asked, answer]})
    rows[-1]["messages"].pop(0)
    return rows


@pytest.mark.parametrize("how", ["auto", "keep", "merge", "drop"])
def test_system_turns_are_in_the_split_as_the_switch_says(tmp_path: Path, how: str) -> None:
    source = write(tmp_path / "mine.jsonl", with_system())
    report = prepare(DataArguments(study_dir=str(tmp_path), data=[str(source)], system_turns=how, workers=1))
    text = SYSTEM.replace("Elvira Quill", "[DOCTOR]")  # it is cleaned and de-identified as the other turns are
    done = "keep" if how == "auto" else how  # the embedded model's template prints a system turn
    assert report["system_turns"] == {"rows": 11, "how": done, "text": "" if how == "drop" else text}
    rows = [row for name in ("train", "dev", "test") for row in load_split(str(tmp_path), name)]
    first = {row["id"]: row["messages"] for row in rows}
    assert len(first) == 12
    for name, messages in first.items():
        has = name != "mine:12"
        roles = ["system"] * (has and done == "keep") + ["user", "assistant"]
        assert [turn["role"] for turn in messages] == roles
        assert (text in messages[0]["content"]) == (has and done != "drop")
        assert messages[-2]["content"].startswith(text if has and done == "merge" else "My ")
    card = (tmp_path / "data" / "README.md").read_text()
    assert {"keep": "kept", "merge": "put before", "drop": "dropped"}[done] in card


def test_rows_that_differ_in_the_system_turn_alone_are_copies(tmp_path: Path) -> None:
    rows = with_system()
    other = {"messages": [{"role": "system", "content": "Be brief."}, *rows[0]["messages"][1:]]}
    report = prepare(
        DataArguments(study_dir=str(tmp_path), data=[str(write(tmp_path / "mine.jsonl", [*rows, other]))], workers=1)
    )
    assert report["dropped"] == {"exact_duplicate": 1}


def test_an_unknown_way_with_system_turns_names_the_nearest(tmp_path: Path) -> None:
    source = write(tmp_path / "mine.jsonl", with_system())
    with pytest.raises(UserError, match="system_turns: 'merged' is not known: did you mean 'merge'"):
        prepare(DataArguments(study_dir=str(tmp_path), data=[str(source)], system_turns="merged"))


def test_the_help_lists_every_rule() -> None:
    documented = " ".join((ROOT / "recipes" / "prepare_data.py").read_text(encoding="utf-8").split('"""')[1].split())
    listed = re.search(r"--skip_rules leaves out: (.*?); or all", documented)
    assert listed is not None
    assert tuple(re.split("[,;] ", listed[1])) == (*CLEANING_RULES, *IDENTIFIER_RULES)


def test_an_unreachable_hub_is_reported_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # read once, when it was imported
    with pytest.raises(UserError, match="nobody/nothing: no such file, and the hub cannot be reached; give a local"):
        prepare(DataArguments(study_dir=str(tmp_path), data=["nobody/nothing"]))


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the real corpora are not beside this checkout")
def test_real_consultations_make_a_test_split_that_can_be_compared(tmp_path: Path) -> None:
    report = prepare(DataArguments(study_dir=str(tmp_path), data=[str(SHARED / "covid_dialogue_en.jsonl")]))
    assert report["rows_read"] == 615
    assert report["splits"]["test"]["rows"] >= 45
    assert report["redacted"]["DOCTOR"] >= 40
    assert report["duplicates"]["near"] >= 5


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the real corpora are not beside this checkout")
def test_no_conversation_is_on_two_sides(tmp_path: Path) -> None:
    lines = (SHARED / "mts_dialog_turns.jsonl").read_text(encoding="utf-8").splitlines()[:400]
    rows = [json.loads(line) for line in lines]
    data = [str(write(tmp_path / "mts.jsonl", rows))]
    prepare(DataArguments(study_dir=str(tmp_path), data=data, answers_once=False))  # short rows stay
    side = {row["id"]: name for name in ("train", "dev", "test") for row in load_split(str(tmp_path), name)}
    followed = 0
    for number in range(1, len(rows)):
        before, row = rows[number - 1], rows[number]
        earlier = f"Patient: {before['patient_message']}\nDoctor: {before['doctor_response']}"
        ids = (f"mts:{number}", f"mts:{number + 1}")
        if row["dialogue_context"].endswith(earlier) and set(ids) <= set(side):
            followed += 1
            assert side[ids[0]] == side[ids[1]]
    assert followed > 200


def test_a_file_without_one_usable_row_is_refused_whatever_the_limit(tmp_path: Path) -> None:
    (tmp_path / "odd.jsonl").write_text('{"patient_message": 3, "doctor_response": 4}\n')
    with pytest.raises(UserError, match="1 of 1 rows cannot be used"):
        prepare(DataArguments(data=[str(tmp_path / "odd.jsonl")], study_dir=str(tmp_path / "s"), max_rejected=1.0))
