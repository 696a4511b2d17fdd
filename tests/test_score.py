"""score.py as a user runs it: what it writes, that it does nothing twice, and what it says about bad input."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from medsft.arguments import ScoreArguments
from medsft.cli import run
from medsft.files import read_json, read_jsonl, write_jsonl
from medsft.significance import holm

SCRIPT = Path(__file__).resolve().parents[1] / "recipes" / "score.py"
COMPLAINTS = ["sudden chest pain", "a stiff neck", "an itchy rash", "a dry cough", "a swollen ankle", "a ringing ear"]
ADVICE = [
    "call an ambulance at once",
    "move it gently",
    "use a plain cream",
    "try honey at night",
    "raise the leg",
    "rest it",
]
FLOORS = ["constant", "shuffled", "echo", "nearest"]
PRIMARY = ["rouge1", "rouge2", "rougeL", "bertscore_f1"]
METRICS = {
    *PRIMARY, "rougeLsum", "bertscore_f1_rescaled", "bertscore_precision", "bertscore_recall", "bleu", "chrf", "meteor",
    "end_of_turn", "length_ratio", "distinct_1", "distinct_2", "loop", "boilerplate", "identity", "reading_grade",
    "red_flag_recall", "over_escalation", "copy_8", "copy_13", "longest_copy",
    *(f"{n}_{part}" for n in ("rouge1", "rouge2", "rougeL", "rougeLsum") for part in ("precision", "recall")),
    *(f"{n}_{part}" for n in ("rouge1", "rouge2", "rougeL") for part in ("stripped", "matched")),
}  # fmt: skip


def answer_row(number, prediction):
    complaint, advice = COMPLAINTS[number % 6], ADVICE[number % 6]
    return {
        "id": f"row{number}",
        "group": f"group{number // 2}",
        "source": "made up",
        "prompt": f"I have had {complaint} for {number + 2} days.",
        "reference": f"For {complaint}, {advice} and call me if it lasts more than {number + 5} days.",
        "prediction": prediction,
        "stopped": number % 3 > 0,
        "new_tokens": len(prediction.split()),
    }


def write_arm(study, arm, numbers, predict):
    rows = [answer_row(number, "") for number in numbers]
    for row, number in zip(rows, numbers, strict=True):
        row["prediction"] = predict(row, number)
    write_jsonl(study / arm / "generations.jsonl", rows)


@pytest.fixture
def study(tmp_path):
    """Ten test rows in five groups answered by two arms, an empty and a very odd answer among them."""
    write_arm(tmp_path, "baseline", range(10), lambda row, n: "" if n == 0 else "Please see a doctor soon. 发烧 \u200b")
    write_arm(tmp_path, "lora", range(9, -1, -1), lambda row, n: row["reference"].replace("call", "tell"))
    turns = [
        [{"role": "user", "content": f"What helps with {c}?"}, {"role": "assistant", "content": f"You could {a}."}]
        for c, a in zip(COMPLAINTS, ADVICE, strict=True)
    ]
    names = [f"train{number}" for number in range(6)]
    table = pyarrow.table({"id": names, "source": names, "group": names, "messages": turns})
    (tmp_path / "data").mkdir()
    pyarrow.parquet.write_table(table, tmp_path / "data" / "train.parquet")
    return tmp_path


def score(study, *flags):
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(SCRIPT), "--study_dir", str(study), "--resamples", "300", *flags]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


@pytest.fixture
def score_here(monkeypatch, capsys):
    """The script without a second import of torch: its exit status, its output and its errors."""
    import score as script

    def run_here(study, *flags):
        monkeypatch.setattr(sys, "argv", ["score.py", "--study_dir", str(study), "--resamples", "300", *flags])
        try:
            run(script.main, script.__doc__, ScoreArguments)
            status = 0
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return run_here


def written(study):
    files = [path for path in study.rglob("*") if path.name.startswith(("scores", "comparison"))]
    return {str(path.relative_to(study)): path.stat().st_mtime_ns for path in files}


def test_scores_floors_and_comparisons_and_nothing_is_done_twice(study, score_here):
    first = score(study)
    assert first.returncode == 0, first.stderr
    assert "lora" in first.stdout
    assert "floor: nearest" in first.stdout

    lora = read_json(study / "lora" / "scores.json")
    rows = read_jsonl(study / "lora" / lora["per_example"])
    assert (lora["arm"], lora["n"], lora["groups"], set(lora["metrics"])) == ("lora", 10, 5, METRICS)
    assert set(rows[0]) == {"id", "group"} | METRICS
    for name, value in lora["metrics"].items():
        known = [row[name] for row in rows if row[name] is not None]
        assert value["mean"] == pytest.approx(sum(known) / len(known))
        assert value.get("n", 10) == len(known)
        assert value["low"] <= value["mean"] <= value["high"]
    assert lora["metrics"]["end_of_turn"]["mean"] == pytest.approx(0.6)
    empty = read_jsonl(study / "baseline" / "scores_per_example.jsonl")[0]
    assert (empty["id"], empty["rouge1"], empty["bertscore_f1"], empty["length_ratio"]) == ("row0", 0, 0, 0)

    comparison = read_json(study / "comparison.json")
    assert list(comparison["floors"]) == FLOORS
    assert all(set(floor["metrics"]) == METRICS and floor["n"] == 10 for floor in comparison["floors"].values())
    assert comparison["floors"]["shuffled"]["metrics"]["bertscore_f1_rescaled"]["mean"] == pytest.approx(0, abs=1e-4)
    assert comparison["floors"]["nearest"]["metrics"]["rouge2"]["mean"] > 0.1
    found = comparison["comparisons"]
    assert [(row["metric"], row["arm"], row["baseline"], row["n"]) for row in found] == [
        (metric, "lora", "baseline", 10) for metric in PRIMARY
    ]
    assert all(row["difference"] > 0 and row["low"] <= row["difference"] <= row["high"] for row in found)
    assert [row["p_holm"] for row in found] == pytest.approx(holm([row["p"] for row in found]))
    assert comparison["settings"]["encoder"] == "embedded/all-MiniLM-L6-v2"
    assert comparison["settings"]["layer"] == 6
    assert str(study) not in json.dumps(comparison)

    before = written(study)
    status, output, _ = score_here(study)
    assert (status, output.strip()) == (0, f"already done: {study / 'comparison.json'}")
    assert written(study) == before

    write_arm(study, "full", range(10), lambda row, n: row["prompt"])
    assert score_here(study)[0] == 0
    assert written(study)["lora/scores.json"] == before["lora/scores.json"]
    assert read_json(study / "comparison.json")["floors"] == comparison["floors"]
    assert len(read_json(study / "comparison.json")["comparisons"]) == 8


def test_arms_with_other_rows_are_compared_on_the_common_ones(study, score_here):
    write_arm(study, "full", range(6, 14), lambda row, n: row["prompt"])
    assert score_here(study, "--confidence", "0.9")[0] == 0
    comparison = read_json(study / "comparison.json")
    assert {(row["arm"], row["n"]) for row in comparison["comparisons"]} == {("full", 4), ("lora", 10)}
    assert comparison["floors"]["echo"]["n"] == 14
    assert read_json(study / "full" / "scores.json")["n"] == 8


def damage(file, **changes):
    rows = read_jsonl(file)
    rows[1] = {key: value for key, value in {**rows[1], **changes}.items() if value is not None}
    write_jsonl(file, rows)


BAD_STUDIES = {
    "a field is missing": (
        lambda study: damage(study / "lora" / "generations.jsonl", prediction=None),
        ["lora/generations.jsonl", "row 2", "'prediction'"],
    ),
    "a field has another type": (
        lambda study: damage(study / "lora" / "generations.jsonl", stopped="yes"),
        ["lora/generations.jsonl", "row 2", "'stopped'"],
    ),
    "an id comes twice": (
        lambda study: damage(study / "baseline" / "generations.jsonl", id="row0"),
        ["baseline/generations.jsonl", "row 2", "'id'"],
    ),
    "arms have other references": (
        lambda study: damage(study / "lora" / "generations.jsonl", reference="Rest."),
        ["lora/generations.jsonl", "row 2", "'reference'"],
    ),
    "no common rows": (
        lambda study: write_arm(study, "lora", range(20, 24), lambda row, n: "Rest."),
        ["lora/generations.jsonl", "'id'", "baseline"],
    ),
    "an empty file": (
        lambda study: (study / "lora" / "generations.jsonl").write_text(""),
        ["lora/generations.jsonl", "no rows"],
    ),
    "no training split": (
        lambda study: (study / "data" / "train.parquet").unlink(),
        ["train.parquet", "prepare_data.py"],
    ),
    "a training split that is no Parquet": (
        lambda study: (study / "data" / "train.parquet").write_text("id,source"),
        ["train.parquet", "'messages'", "prepare_data.py"],
    ),
    "a training split with other columns": (
        lambda study: pyarrow.parquet.write_table(pyarrow.table({"id": ["a"]}), study / "data" / "train.parquet"),
        ["train.parquet", "'messages'", "prepare_data.py"],
    ),
}


@pytest.mark.parametrize("case", BAD_STUDIES)
def test_bad_input_is_refused_in_one_line_that_names_the_place(study, case, score_here):
    spoil, expected = BAD_STUDIES[case]
    spoil(study)
    status, _, message = score_here(study)
    assert status == 2
    assert message.count("\n") == 1
    assert all(part in message for part in expected), message
    assert not written(study)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--confidence", "95"], "confidence 95"),
        (["--resamples", "0"], "resamples 0"),
        (["--seed", "-1"], "seed -1"),
        (["--bert_layer", "9"], "layers 1 to 6"),
        (["--study_dir", "/nowhere"], "generate.py"),
        (["--resample", "5"], "'resamples'"),
    ],
)
def test_bad_options_are_refused_in_one_line(study, flags, expected, score_here):
    status, _, message = score_here(study, *flags)
    assert status == 2
    assert expected in message.splitlines()[-1]


def test_one_reference_cannot_be_scored(study, score_here):
    for arm in ("baseline", "lora"):
        write_arm(study, arm, [0], lambda row, n: "Rest.")
    status, _, message = score_here(study)
    assert status == 2
    assert "at least two different ones" in message


def test_help_needs_no_torch():
    start = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-X", "importtime", str(SCRIPT), "--help"], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0
    assert "--resamples" in result.stdout
    assert not any(f" {name}\n" in result.stderr for name in ("torch", "transformers", "trl", "nltk", "pandas"))
    assert time.monotonic() - start < 20
