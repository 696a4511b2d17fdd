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

from medsft import report_tables
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
    *PRIMARY, "rougeLsum", "bertscore_f1_rescaled", "bertscore_precision", "bertscore_recall",
    "bertscore_f1_stripped", "bertscore_f1_matched", "bleu", "chrf", "meteor",
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


def known_answer(number):
    """Twelve words that no other row has; every fourth row is an emergency, and its doctor says so."""
    urgent = number % 4 == 0
    words = " ".join(f"w{number}x{place}" for place in range(12 - 4 * urgent))
    row = answer_row(number, "")
    row["prompt"] = "I have crushing chest pain." if urgent else f"My toe number {number} itches."
    row["reference"] = f"Call an ambulance now. {words}." if urgent else f"{words}."
    return row


def test_arms_made_by_degrading_another_are_found_with_direction_and_size(study, score_here):
    """The baseline gives the doctor's words; what is taken away or added to make each arm is known exactly."""
    shorter = {"half": lambda row, n: " ".join(row["reference"].split()[:6]) if n // 2 % 2 else row["reference"]}
    arms = shorter | {
        "baseline": lambda row, n: row["reference"],
        "polite": lambda row, n: f"Thank you for your query. {row['reference']}",
        "reckless": lambda row, n: row["reference"].replace("Call an ambulance now.", "Do wait a week."),
    }
    (study / "lora" / "generations.jsonl").unlink()
    for arm, predict in arms.items():
        rows = [known_answer(number) for number in range(48)]
        write_jsonl(study / arm / "generations.jsonl", [{**r, "prediction": predict(r, n)} for n, r in enumerate(rows)])
    declared = ["--primary", "rouge1", "rouge1_recall", "rouge1_stripped", "--resamples", "5000"]
    status, output, message = score_here(study, *declared)
    assert status == 0, message
    comparison = read_json(study / "comparison.json")
    found = {(row["arm"], row["metric"]): row for row in comparison["comparisons"]}

    # half of the 12 words of half of the groups: recall 1/2 and F 2/3 there
    for metric, true in (("rouge1_recall", -1 / 4), ("rouge1", -1 / 6)):
        row = found["half", metric]
        assert row["difference"] == pytest.approx(true)
        assert row["low"] < true < row["high"] < 0 and row["p_holm"] < 0.02
    # five words of courtesy before twelve cost 1 - 24 / 29 of F and no recall; without boilerplate nothing differs
    assert found["polite", "rouge1"]["difference"] == pytest.approx(24 / 29 - 1)
    for metric in ("rouge1_recall", "rouge1_stripped"):
        assert (found["polite", metric]["difference"], found["polite", metric]["p"]) == (0, 1)

    shown = {tuple(row[:2]): row[2:] for row in report_tables.corrected(comparison).rows}
    raw, stripped, matched = shown["polite", "ROUGE-1"]
    assert raw.startswith("\u22120.172") and stripped.startswith("+0.000") and matched.startswith("\u22120.")

    guardrail = {row["arm"]: row for row in comparison["guardrails"]}
    assert guardrail["reckless"]["verdict"] == "broken" and guardrail["reckless"]["n"] == 12
    assert (guardrail["reckless"]["baseline_share"], guardrail["reckless"]["arm_share"]) == (1, 0)
    assert guardrail["polite"]["verdict"] == "not shown"  # 12 emergencies are too few to exclude a drop of 5 %
    assert "guardrail red-flag recall, reckless: broken" in output
    slices = {(row["arm"], row["metric"]): row for row in comparison["slices"] if row["slice"] == "cardiology"}
    assert slices["reckless", "rouge1"]["n"] == 12 and slices["reckless", "rouge1"]["high"] < 0


def test_before_any_arm_has_answered_the_floors_of_the_test_split_are_scored(study, score_here):
    rows = [answer_row(number, "") for number in range(6)]
    rows += [{**rows[0], "id": "other", "reference": "Another doctor says rest."}]
    asked = [{"role": "user", "content": row["prompt"]} for row in rows]
    messages = [[q, {"role": "assistant", "content": row["reference"]}] for q, row in zip(asked, rows, strict=True)]
    common = {name: [row[name] for row in rows] for name in ("id", "group", "source")}
    pyarrow.parquet.write_table(pyarrow.table({**common, "messages": messages}), study / "data" / "test.parquet")
    for arm in ("baseline", "lora"):
        (study / arm / "generations.jsonl").unlink()
    status, output, message = score_here(study)
    assert status == 0, message
    assert "no arm has answered yet" in output and "floor: nearest" in output
    comparison = read_json(study / "comparison.json")
    assert list(comparison["floors"]) == FLOORS and comparison["comparisons"] == []
    assert all(floor["n"] == 7 for floor in comparison["floors"].values())
    assert comparison["ceiling"]["doctors"]["n"] == 2  # two doctors answered the first question
    assert score_here(study)[1].strip().endswith(f"already done: {study / 'comparison.json'}")

    for arm in ("baseline", "lora"):  # and then they answer
        write_jsonl(study / arm / "generations.jsonl", [{**row, "prediction": "Rest."} for row in rows])
    assert score_here(study)[0] == 0
    assert len(read_json(study / "comparison.json")["comparisons"]) == 4


def damage(file, **changes):
    rows = read_jsonl(file)
    rows[1] = {key: value for key, value in {**rows[1], **changes}.items() if value is not None}
    write_jsonl(file, rows)


def tear(path):
    """Zeros over the first block, as a write leaves them that the machine's end cut short; the footer stays whole."""
    with path.open("r+b") as handle:
        handle.seek(4)
        handle.write(bytes(60))


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
        ["train.parquet", "not a readable Parquet", "prepare_data.py"],
    ),
    "a training split with a torn block": (
        lambda study: tear(study / "data" / "train.parquet"),
        ["train.parquet", "not a readable Parquet", "prepare_data.py"],
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
        (["--primary", "rouge1", "rogue2"], "primary: 'rogue2' is not scored"),
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
