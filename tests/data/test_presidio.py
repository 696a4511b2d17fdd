"""Presidio through the real library: what it finds, what it must leave, how it is counted apart from the rules."""

import json
from pathlib import Path

import pytest

from conftest import run_here
from medsft.arguments import DataArguments
from medsft.data.prepare import prepare
from medsft.data.rules.presidio import redact
from medsft.data.split_files import load_split
from medsft.errors import UserError

spacy = pytest.importorskip("spacy", reason="the extra 'presidio' is not installed")
NAMES = ["Tobiah Wrenfield", "Philomena", "Zofran", "Kaushal van Quill", "DOCTOR"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A spaCy pipeline that calls these words a person, as a trained one does with drugs too."""
    pipeline = spacy.blank("en")
    ruler = pipeline.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": "PERSON", "pattern": name} for name in NAMES])
    folder = tmp_path_factory.mktemp("spacy") / "names"
    pipeline.to_disk(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("My wife Tobiah Wrenfield coughs.", "My wife [PERSON] coughs."),
        ("Tobiah Wrenfield's card 4111 1111 1111 1111", "[PERSON]'s card [RECORD]"),
        ("Philomena takes Zofran, says [DOCTOR]", "Philomena takes Zofran, says [DOCTOR]"),
        ("IBAN DE89 3704 0044 0532 0130 00.", "IBAN [RECORD]."),
        ("119/64, 1234 5678 9012 3456 mg, 2020-03-12", "119/64, 1234 5678 9012 3456 mg, 2020-03-12"),
        ("", ""),
    ],
)
def test_full_names_and_account_numbers_go_and_drugs_stay(model: str, text: str, after: str) -> None:
    ((replaced, counts),) = redact([text], model)
    assert replaced == after
    assert counts.total() == after.count("[") - text.count("[")


def test_a_long_text_is_read_in_pieces_and_put_together_again(model: str) -> None:
    text = "It hurts. " * 9_999 + "Tobiah Wrenfield"
    (one, two) = redact([text, "Tobiah Wrenfield"], model)
    assert one == (text.replace("Tobiah Wrenfield", "[PERSON]"), {"PERSON": 1})
    assert two == ("[PERSON]", {"PERSON": 1})


@pytest.mark.slow
def test_the_stage_runs_it_after_the_rules_and_counts_it(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {"patient_message": f"With Tobiah Wrenfield there is lump {n} since {n} May", "doctor_response": f"Rest {n}."}
        for n in range(12)
    ]
    source = tmp_path / "mine.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    args = DataArguments(study_dir=str(tmp_path / "study"), data=[str(source)], near_duplicate=1.0, workers=1)
    without = prepare(args)
    clean = next((tmp_path / "study" / ".cache").glob("deidentify-*")).stat().st_mtime_ns
    args.presidio_model = model
    report = prepare(args)
    assert (without["redacted"], report["redacted"]) == ({}, {"PERSON": 12})
    assert "[PERSON] there is lump" in load_split(args.study_dir, "train")[0]["messages"][0]["content"]
    assert report["samples"]["presidio"]["before"].startswith("With xxxxxx xxxxxxxxx there is lump")
    assert next((tmp_path / "study" / ".cache").glob("deidentify-*")).stat().st_mtime_ns == clean
    monkeypatch.setattr("medsft.data.pipeline.SMALL", 4)
    args.study_dir, args.workers = str(tmp_path / "two"), 2
    assert prepare(args)["fingerprint"] == report["fingerprint"]
    assert len(list((tmp_path / "two" / ".cache").glob("names-*.arrow"))) == 2


def test_what_is_missing_is_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run_here("prepare_data.py", "--study_dir", tmp_path, "--presidio_model", "en_core_web_nowhere")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "no spaCy model 'en_core_web_nowhere'; give the name of an installed package, or a folder" in done.stderr
    spacy.blank("en").to_disk(tmp_path / "blank")
    with pytest.raises(UserError, match="recognises no entities"):
        list(redact(["x"], str(tmp_path / "blank")))
    monkeypatch.setitem(__import__("sys").modules, "presidio_analyzer", None)
    with pytest.raises(UserError, match=r"not installed; pip install -e \"\.\[presidio\]\""):
        list(redact(["x"], "other"))
