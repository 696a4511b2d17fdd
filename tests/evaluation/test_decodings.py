"""Scores by way of decoding: draws are averaged by question, other ways stand beside, a turned outcome is said."""

from pathlib import Path

import pytest

from medsft.evaluation import decodings
from medsft.files import read_json, read_jsonl, write_jsonl
from medsft.inference.generations_file import read_rows
from medsft.reporting.verdict import decoding_sentences
from scored_study import answer_row, make, score, write_arm

ROWS = range(14)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Greedily lora loops and says nothing; sampled it is the doctor's answer in one draw and half of it in another."""
    folder = make(tmp_path)
    for arm, greedy, draws in (
        ("baseline", lambda row: "Please see a doctor.", [lambda row: "Please see a doctor soon."] * 2),
        ("lora", lambda row: "go " * 9, [lambda row: row["reference"], lambda row: row["reference"][:30]]),
    ):
        write_arm(folder, arm, ROWS, lambda row, n, made=greedy: made(row))
        for seed, made in enumerate(draws, 1):
            rows = [{**row, "prediction": made(row)} for row in (answer_row(n, "") for n in ROWS)]
            (folder / arm / "sampled").mkdir(exist_ok=True)
            write_jsonl(folder / arm / "sampled" / f"seed_{seed}.jsonl", rows[::-1])
    return folder


def test_a_question_has_the_mean_of_its_draws_and_greedy_answers_stand_beside(study: Path) -> None:
    done = score(study, "--decoding", "sampled")
    assert done.returncode == 0, done.stderr
    rows = {row["id"]: row for row in read_jsonl(study / "lora" / "scores_per_example.jsonl")}
    assert len(rows) == len(ROWS)
    beside = read_jsonl(study / "lora" / decodings.PER_EXAMPLE)
    assert {row["decoding"] for row in beside} == {"greedy"} and len(beside) == len(ROWS)
    assert max(row["rouge1"] for row in beside) == 0
    seeds = [{row["id"]: row for row in read_rows(study / "lora" / "sampled" / f"seed_{n}.jsonl")} for n in (1, 2)]
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rouge1"], use_stemmer=True)
    for number in ROWS:
        row = f"row{number}"
        draws = [scorer.score(draw[row]["reference"], draw[row]["prediction"])["rouge1"].fmeasure for draw in seeds]
        assert rows[row]["rouge1"] == pytest.approx(sum(draws) / 2)
        assert draws[0] == 1 > draws[1]
    comparison = read_json(study / "comparison.json")
    assert comparison["settings"]["decoding"] == "sampled"
    [better] = [row for row in comparison["comparisons"] if row["metric"] == "rouge1"]
    [worse] = [row for row in comparison["decodings"] if row["metric"] == "rouge1"]
    assert better["difference"] > 0.3 and worse["difference"] < 0 and worse["decoding"] == "greedy"
    said = decoding_sentences({"arms": {}, "cost": {}, "alpha": 0.05, "decoding": "sampled", **comparison})  # type: ignore[typeddict-item]
    assert "All of this is about sampled answers; decoding decides some of it" in said[0]
    assert "BERTScore F1 is worse instead of better" in said[0]


def test_penalised_answers_can_be_the_primary_ones(study: Path) -> None:
    for arm in ("baseline", "lora"):
        write_jsonl(study / arm / "penalised.jsonl", read_jsonl(study / arm / "generations.jsonl"))
    done = score(study, "--decoding", "penalised")
    assert done.returncode == 0, done.stderr
    assert {row["decoding"] for row in read_jsonl(study / "lora" / decodings.PER_EXAMPLE)} == {"greedy", "sampled"}
    comparison = read_json(study / "comparison.json")
    greedy = [row for row in comparison["decodings"] if row["decoding"] == "greedy"]
    assert [row["difference"] for row in greedy] == [row["difference"] for row in comparison["comparisons"]]


def test_what_an_arm_has_not_answered_is_refused_with_the_way_to_it(study: Path) -> None:
    done = score(study, "--decoding", "penalised")
    assert done.returncode == 2
    line = f"run: python recipes/generate.py --study_dir {study} --arm baseline "
    assert line in done.stderr.splitlines()[-1] and done.stderr.rstrip().endswith("--repetition_penalty 1.1")
    (study / "lora" / "sampled" / "seed_2.jsonl").unlink()
    done = score(study, "--decoding", "sampled")
    assert done.returncode == 2 and "other numbers of draws" in done.stderr.splitlines()[-1]
    assert score(study, "--decoding", "beam").returncode == 2


def test_the_verdict_says_what_it_is_about() -> None:
    row = {"arm": "lora", "metric": "rouge1", "difference": 0.1, "p_holm": 0.01}
    known = {"alpha": 0.05, "comparisons": [row], "cost": {}, "arms": {}}
    assert decoding_sentences(known)[0] == "All of this is about greedy answers; no other way of decoding was tried."  # type: ignore[arg-type]
    same = known | {"decodings": [row | {"decoding": "sampled"}]}
    assert decoding_sentences(same) == ["All of this is about greedy answers; sampled ones change no outcome."]  # type: ignore[arg-type]
