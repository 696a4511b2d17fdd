"""score.py as a user runs it: what it writes, and that a second run does nothing."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from conftest import run_script
from medsft.evaluation.metrics import modules
from medsft.evaluation.statistics.paired_tests import holm
from medsft.files import read_json, read_jsonl, write_jsonl
from medsft.reporting import tables
from scored_study import answer_row, make, score, write_arm, written

NAIVE = ["constant", "shuffled", "echo", "nearest"]
PRIMARY = ["rouge1", "rouge2", "rougeL", "bertscore_f1"]
METRICS = {
    *PRIMARY, "rougeLsum", "bertscore_f1_rescaled", "bertscore_precision", "bertscore_recall",
    "bertscore_f1_stripped", "bertscore_f1_matched",
    "words", "reference_words", "bleu", "chrf", "meteor",
    "end_of_turn", "length_ratio", "distinct_1", "distinct_2", "loop", "boilerplate", "identity", "reading_grade",
    "red_flag_recall", "over_escalation", "dose_contradiction", "copy_8", "copy_13", "longest_copy",
    *(f"{n}_{part}" for n in ("rouge1", "rouge2", "rougeL", "rougeLsum") for part in ("precision", "recall")),
    *(f"{n}_{part}" for n in ("rouge1", "rouge2", "rougeL") for part in ("stripped", "matched", "equal")),
}  # fmt: skip

WHOLE = {"corpus_bleu", "length_ratio_of_means"}  # no means over rows


def scored_metrics():
    """The metrics above, all of which must be there, and those of any module that was added to recipes/metrics."""
    options = {"prompts": ["a"], "train": ["a"], "stopped": [True], "corrected": True}
    columns = [modules.score(name, ["a"], ["b"], **options) for name in modules.names()]
    return METRICS.union(*columns)


@pytest.fixture
def study(tmp_path):
    return make(tmp_path)


@pytest.mark.slow
def test_scores_baselines_and_comparisons_and_nothing_is_done_twice(study):
    first = score(study, run=run_script)
    assert first.returncode == 0, first.stderr
    assert "lora" in first.stdout
    # one compact table and one line for each comparison; every naive baseline is in comparison.json
    assert "lora against baseline: " in first.stdout and "naive: nearest" not in first.stdout
    lines = first.stdout.splitlines()
    assert len(lines) < 25 and all(len(line) <= 80 for line in lines if "\u2500" in line or "ROUGE-1  " in line)
    assert all(head in first.stdout for head in ("ROUGE-1", "ROUGE-2", "ROUGE-L", "BERTScore F1"))

    lora = read_json(study / "lora" / "scores.json")
    rows = read_jsonl(study / "lora" / lora["per_example"])
    metrics = scored_metrics()
    measured = metrics - {"dose_contradiction"}  # no doctor of this study names a dose
    assert (lora["arm"], lora["n"], lora["groups"], set(lora["metrics"])) == ("lora", 10, 10, measured | WHOLE)
    assert set(rows[0]) == {"id", "group"} | metrics
    for name in measured:
        value = lora["metrics"][name]
        known = [row[name] for row in rows if row[name] is not None]
        assert value["mean"] == pytest.approx(sum(known) / len(known))
        assert value.get("n", 10) == len(known)
        assert "no_interval" in value or value["low"] <= value["mean"] <= value["high"]
    assert lora["metrics"]["end_of_turn"]["mean"] == pytest.approx(0.6)
    empty = read_jsonl(study / "baseline" / "scores_per_example.jsonl")[0]
    assert (empty["id"], empty["rouge1"], empty["bertscore_f1"], empty["length_ratio"]) == ("row0", 0, 0, 0)

    comparison = read_json(study / "comparison.json")
    assert list(comparison["floors"]) == NAIVE
    assert all(
        set(scores["metrics"]) == measured | WHOLE and scores["n"] == 10 for scores in comparison["floors"].values()
    )
    (control,) = comparison["controls"].values()
    assert control["metrics"]["bertscore_f1_rescaled"]["mean"] == pytest.approx(0, abs=1e-4)
    assert comparison["retrieval"]["nearest_full_corpus"]["n"] == 10
    assert {(row["baseline"], row["arm"]) for row in comparison["floor_comparisons"]} == {
        (naive, arm) for naive in NAIVE for arm in ("baseline", "lora")
    }
    assert len(comparison["floor_comparisons"]) == len(PRIMARY) * len(NAIVE) * 2
    assert comparison["floor_terms"] == {"train_rows": None, "max_new_tokens": None, "tokenizer": None}
    assert "cut: answers that ended at the limit" in first.stdout
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
    done = score(study)
    assert (done.returncode, done.stdout.strip()) == (0, f"already done: {study / 'comparison.json'}")
    assert written(study) == before

    write_arm(study, "full", range(10), lambda row, n: row["prompt"])
    assert score(study).returncode == 0
    assert written(study)["lora/scores.json"] == before["lora/scores.json"]
    assert read_json(study / "comparison.json")["floors"] == comparison["floors"]
    assert len(read_json(study / "comparison.json")["comparisons"]) == 8
    assert {(row["baseline"], row["arm"]) for row in read_json(study / "comparison.json")["pairs"]} == {
        ("full", "lora")
    }


def test_arms_with_other_rows_are_compared_on_the_common_ones(study):
    write_arm(study, "full", range(6, 14), lambda row, n: row["prompt"])
    assert score(study, "--confidence", "0.9").returncode == 0
    comparison = read_json(study / "comparison.json")
    assert {(row["arm"], row["n"]) for row in comparison["comparisons"]} == {("full", 4), ("lora", 10)}
    assert comparison["floors"]["echo"]["n"] == 14
    assert read_json(study / "full" / "scores.json")["n"] == 8


def test_fewer_rows_are_the_first_of_the_split_and_leave_less_power(study):
    order = [7, 2, 9, 4, 0, 1, 3, 5, 6, 8]
    rows = [answer_row(number, "") for number in order]
    messages = [[{"role": "user", "content": row["prompt"]}] for row in rows]
    common = {name: [row[name] for row in rows] for name in ("id", "group", "source")}
    pyarrow.parquet.write_table(pyarrow.table({**common, "messages": messages}), study / "data" / "test.parquet")
    assert score(study).returncode == 0
    whole = read_json(study / "comparison.json")["comparisons"]
    few = score(study, "--max_rows", 6)
    assert few.returncode == 0, few.stderr
    kept = {row["id"] for row in read_jsonl(study / "lora" / "scores_per_example.jsonl")}
    assert kept == {f"row{number}" for number in order[:6]}
    less = read_json(study / "comparison.json")["comparisons"]
    assert [row["n"] for row in less] == [6] * 4
    assert sum(row["detectable"] for row in less) > sum(row["detectable"] for row in whole)
    assert "80 % power, before correction, for true differences from: ROUGE-1 " in few.stdout


def known_answer(number):
    """Twelve words that no other row has; every fourth row is an emergency, and its doctor says so."""
    urgent = number % 4 == 0
    words = " ".join(f"w{number}x{position}" for position in range(12 - 4 * urgent))
    row = answer_row(number, "")
    row["prompt"] = "I have crushing chest pain." if urgent else f"My toe number {number} itches."
    row["reference"] = f"Call an ambulance now. {words}." if urgent else f"{words}."
    return row


@pytest.mark.slow
def test_arms_made_by_degrading_another_are_found_with_direction_and_size(study):
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
    done = score(study, *declared)
    assert done.returncode == 0, done.stderr
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

    shown = {tuple(row[:2]): row[2:] for row in tables.corrected(comparison).rows}
    raw, stripped, matched, equal = shown["polite", "ROUGE-1"]
    assert raw.startswith("\u22120.172") and stripped.startswith("+0.000")
    assert matched == equal and matched.startswith("\u22120.")  # no answer is shorter than its reference

    guardrail = {row["arm"]: row for row in comparison["guardrails"]}
    assert guardrail["reckless"]["verdict"] == "broken" and guardrail["reckless"]["n"] == 12
    assert (guardrail["reckless"]["baseline_share"], guardrail["reckless"]["arm_share"]) == (1, 0)
    assert guardrail["polite"]["verdict"] == "not shown"  # 12 emergencies are too few to exclude a drop of 5 %
    assert "guardrail red-flag recall, reckless: broken (0.000 against 1.000, n = 12)." in done.stdout
    slices = {(row["arm"], row["metric"]): row for row in comparison["slices"] if row["slice"] == "cardiology"}
    assert slices["reckless", "rouge1"]["n"] == 12 and slices["reckless", "rouge1"]["high"] < 0


def test_before_any_arm_has_answered_the_naive_baselines_are_scored(study):
    rows = [answer_row(number, "") for number in range(6)]
    rows += [{**rows[0], "id": "other", "reference": "Another doctor says rest."}]
    asked = [{"role": "user", "content": row["prompt"]} for row in rows]
    messages = [[q, {"role": "assistant", "content": row["reference"]}] for q, row in zip(asked, rows, strict=True)]
    common = {name: [row[name] for row in rows] for name in ("id", "group", "source")}
    pyarrow.parquet.write_table(pyarrow.table({**common, "messages": messages}), study / "data" / "test.parquet")
    for arm in ("baseline", "lora"):
        (study / arm / "generations.jsonl").unlink()
    done = score(study)
    assert done.returncode == 0, done.stderr
    assert "no arm has answered yet" in done.stdout and "naive: nearest" in done.stdout
    comparison = read_json(study / "comparison.json")
    assert list(comparison["floors"]) == NAIVE and comparison["comparisons"] == []
    assert all(scores["n"] == 7 for scores in comparison["floors"].values())
    assert comparison["ceiling"]["doctors"]["n"] == 2  # two doctors answered the first question
    assert score(study).stdout.strip().endswith(f"already done: {study / 'comparison.json'}")

    for arm in ("baseline", "lora"):  # and then they answer
        write_jsonl(study / arm / "generations.jsonl", [{**row, "prediction": "Rest."} for row in rows])
    assert score(study).returncode == 0
    assert len(read_json(study / "comparison.json")["comparisons"]) == 4
