"""A test set from elsewhere: prepared by the same rules, without what is near a training row, beside the same split."""

import pytest

from conftest import run_here
from medsft.arguments import DataArguments
from medsft.data.also_test import named_files
from medsft.data.split_files import load_split
from medsft.files import read_json, read_jsonl, write_jsonl

PLACES = ["knee", "elbow", "wrist", "ankle", "shoulder", "hip", "thumb", "heel", "jaw", "neck", "back", "rib"]
FEELINGS = ["a burning pain", "an odd numbness", "a dull ache", "a sharp sting"]


def dialogue(number):
    place, feeling = PLACES[number % 12], FEELINGS[number // 12 % 4]
    asked = f"For {number + 3} days I have felt {feeling} in my {place} whenever I carry bag number {number} upstairs."
    said = f"Rest the {place}, cool it {number + 2} times a day and see a doctor if {feeling} lasts over a fortnight."
    return {"patient_message": asked, "doctor_response": said}


def elsewhere(number):
    asked = f"My child has had hiccups since lesson {number} and asks if water from glass {number} helps."
    said = f"Hiccups stop by themselves. Let your child hold the breath for {number + 5} seconds, and write again."
    return {"patient_message": asked, "doctor_response": said} | {
        "statements": [
            f"Holding the breath for {number + 5} seconds helps",
            {"text": "Call jane@doe.org", "must_have": False},
        ]
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("also")
    rows = [dialogue(number) for number in range(48)]
    write_jsonl(folder / "mine.jsonl", rows)
    other = [elsewhere(number * 7) for number in range(6)]
    near = [
        {**dialogue(n), "doctor_response": "Please do see somebody about that very soon, I cannot say."}
        for n in range(48)
    ]
    write_jsonl(folder / "k-qa.jsonl", [*other, other[0], *near])
    return folder


def prepare(folder, study, *flags):
    return run_here("prepare_data.py", "--data", folder / "mine.jsonl", "--study_dir", study, "--workers", 1, *flags)


def test_it_is_apart_de_identified_and_free_of_near_duplicates(files, tmp_path):
    assert prepare(files, tmp_path / "without").returncode == 0
    done = prepare(files, tmp_path / "with", "--also_test", files / "k-qa.jsonl")
    assert done.returncode == 0, done.stderr
    plain, report = (read_json(tmp_path / name / "data" / "data_report.json") for name in ("without", "with"))
    assert report["fingerprint"] == plain["fingerprint"] and report["splits"] == plain["splits"]
    (name,) = report["also_test"]
    found = report["also_test"][name]
    assert name == "k_qa" and found["rows_read"] == 55
    assert found["dropped"]["near_own_split"] == 48 and found["dropped"]["exact_duplicate"] == 1
    assert found["rows"] == 55 - sum(found["dropped"].values())
    split = load_split(str(tmp_path / "with"), "also_test_k_qa")
    kept = [row for row in split if "hiccups" in row["messages"][0]["content"]]
    assert len(kept) == 6 and len(split) == found["rows"]
    texts = [statement["text"] for row in kept for statement in row["statements"]]
    assert len(texts) == 12 and not any("jane" in text for text in texts)
    assert [s["must_have"] for s in kept[0]["statements"]] == [True, False]
    trained = [row["messages"][0]["content"] for row in load_split(str(tmp_path / "with"), "train")]
    assert not set(trained) & {row["messages"][0]["content"] for row in split}
    assert "statements" not in load_split(str(tmp_path / "with"), "test").column_names
    assert "already done" in prepare(files, tmp_path / "with", "--also_test", files / "k-qa.jsonl").stdout
    names = {file["@id"] for file in read_json(tmp_path / "with" / "data" / "croissant.json")["distribution"]}
    assert "also_test_k_qa.parquet" in names


def test_statements_travel_from_the_source_to_the_test_split(tmp_path):
    rows = [dialogue(n) | {"must_have": [f"Rest it, case {n}"], "nice_to_have": ["Cool it"]} for n in range(24)]
    write_jsonl(tmp_path / "mine.jsonl", rows)
    assert prepare(tmp_path, tmp_path / "study").returncode == 0
    for row in load_split(str(tmp_path / "study"), "test"):
        first, second = row["statements"]
        assert first["text"].startswith("Rest it") and (first["must_have"], second["must_have"]) == (True, False)
        assert (first["points"], second["points"]) == (1.0, 0.0)


def test_bad_statements_are_rejected_with_row_and_field(tmp_path):
    rows = [dialogue(n) | ({"statements": [{"text": 3}]} if n == 4 else {}) for n in range(24)]
    write_jsonl(tmp_path / "mine.jsonl", rows)
    assert prepare(tmp_path, tmp_path / "some").returncode == 0
    (bad,) = [row for row in read_jsonl(tmp_path / "some" / "data" / "dropped.jsonl") if row.get("field")]
    assert (bad["row"], bad["field"], bad["reason"]) == (5, "statements", "wrong_type")
    done = prepare(tmp_path, tmp_path / "none", "--max_rejected", 0)
    assert done.returncode == 2 and "row 5, field 'statements': wrong type" in done.stderr


@pytest.mark.parametrize(
    ("also", "message"),
    [
        (["absent.jsonl"], "no such file"),
        (["k-qa.jsonl", "k_qa.jsonl"], "two files are called 'k_qa'"),
        (["mine.jsonl"], "no row is left for a test set"),
    ],
)
def test_a_test_set_that_is_none_is_refused(files, tmp_path, also, message):
    done = prepare(files, tmp_path / "s", "--test_fraction", 0.1, "--also_test", *(files / name for name in also))
    assert done.returncode == 2 and message in done.stderr
    assert not (tmp_path / "s" / "data").exists()


def test_a_set_is_named_by_its_file_and_reads_it_alone():
    own = DataArguments(data=["a.csv", "b.csv"], weights=[1.0, 2.0], max_rows=5, also_test=["x/K-QA v2.jsonl.gz"])
    ((name, options),) = named_files(own).items()
    assert name == "K_QA_v2" and options.data == own.also_test
    assert (options.weights, options.max_rows, options.official_split, options.also_test) == ([], None, False, [])


def test_a_set_may_have_known_columns_where_the_studys_own_are_named(files, tmp_path):
    rows = [{"question": row["patient_message"], "reply": row["doctor_response"]} for row in map(dialogue, range(48))]
    write_jsonl(tmp_path / "own.jsonl", rows)
    write_jsonl(tmp_path / "known.jsonl", [elsewhere(number * 7) for number in range(6)])
    words = ("--columns", "patient=question,doctor=reply", "--also_test", tmp_path / "known.jsonl", "--workers", 1)
    done = run_here("prepare_data.py", "--data", tmp_path / "own.jsonl", "--study_dir", tmp_path / "s", *words)
    assert done.returncode == 0, done.stderr
    assert len(load_split(str(tmp_path / "s"), "also_test_known")) == 6
