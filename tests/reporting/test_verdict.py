"""The verdict knows the direction of good, names harm first, never mixes scales and never contradicts the table."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsft.evaluation.metrics.directions import LESS, MORE, direction
from medsft.evaluation.metrics.modules import PRIMARY
from medsft.reporting.report import write_report
from medsft.reporting.verdict import NO_MODEL, grouped, numbers, outcome, verdict
from medsft.text import LABELS, label
from synthetic_study import arguments, around, make_study, strict_json

METRICS = ["rouge1", "nll", "bleu", "length_ratio", "loop"]


def difference(metric: str, value: float, p_holm: float, arm: str = "lora", **more: Any) -> dict[str, Any]:
    row = {"metric": metric, "baseline": "baseline", "arm": arm, "difference": value, "n": 50, "effect_size": 0.3}
    return row | {"low": value - 0.01, "high": value + 0.01, "p": p_holm, "p_holm": p_holm} | more


def results(*rows: dict[str, Any], **more: Any) -> Any:
    arm = {"n": 50, "metrics": {"rouge1": around(0.2)}}
    arms = dict.fromkeys(["baseline", *(row["arm"] for row in rows)], arm)
    found = {"arms": arms, "comparisons": [*rows], "primary": METRICS, "confidence": 0.95, "alpha": 0.05}
    empty: dict[str, Any] = {"explored": [], "guardrails": [], "seeds": [], "pairs": [], "floor_comparisons": []}
    return found | empty | {"cost": {"lora": {"seed": 42}}} | more


def test_verdict_of_a_study_names_models_intervals_and_naive_baselines(tmp_path: Path) -> None:
    folder, _, _ = write_report(arguments(make_study(tmp_path)))
    trial, first, second = strict_json(folder / "results.json")["verdict"]
    assert trial.startswith("A trial of the machinery, no study")
    assert "The trained model lora (seed 42) against the untrained model, on 44 held-out dialogues: better on" in first
    assert "this is about them and not about the methods" in first
    assert "The trained model full (seed 42) against the untrained model, on 44 held-out dialogues: no diff" in first
    assert "ROUGE-1 +0.040 [+0.028, +0.052] better, p = 0.005" in second
    assert "ROUGE-1 from 0.011 worse to 0.013 better remains possible" in second
    assert "full is on no metric better than every answer without a model and worse than nearest on BERTScore" in first
    assert "lora is better than every answer without a model on ROUGE-1, ROUGE-2, ROUGE-L and BERTScore F1." in first


@pytest.mark.parametrize(
    ("metric", "value", "p_holm", "word"),
    [
        ("rouge1", 0.02, 0.049, "better"),
        ("rouge1", -0.02, 0.049, "worse"),
        ("nll", 0.4, 0.01, "worse"),
        ("nll", -0.4, 0.01, "better"),
        ("loop", 0.18, 0.01, "worse"),
        ("length_ratio", 0.18, 0.01, "higher"),
        ("rouge1", 0.02, 0.05, "not shown"),
        ("rouge1", 0.0, 0.01, "not shown"),
    ],
)
def test_direction_of_good_and_the_corrected_p_decide(metric: str, value: float, p_holm: float, word: str) -> None:
    assert outcome(difference(metric, value, p_holm), 0.05) == word


def test_every_labelled_metric_has_a_direction_or_is_known_to_have_none() -> None:
    without = {metric for metric in LABELS if not direction(metric)}
    assert without == {"length_ratio", "length_ratio_of_means", "words", "reference_words", "reading_grade"}
    assert not MORE & LESS and all(direction(metric) == 1 for metric in PRIMARY)
    assert direction("rouge1_stripped") == direction("bertscore_f1_matched") == direction("rougeL_recall") == 1
    assert direction("a_metric_of_mine") == 0


def test_harm_stands_first_and_in_its_direction() -> None:
    rows = [difference("rouge1", 0.05, 0.001)]
    explored = [
        difference("loop", 0.18, 1, low=0.05, high=0.32),
        difference("identity", -0.10, 1, low=-0.2, high=-0.05),
        difference("distinct_2", -0.27, 1, low=-0.3, high=-0.2),
        difference("length_ratio_of_means", 0.4, 1, low=0.2, high=0.6),
        difference("end_of_turn", -0.1, 1, low=-0.3, high=0.1),
    ]
    guardrail = {"arm": "lora", "verdict": "broken"}
    (first, _) = verdict(results(*rows, explored=explored, guardrails=[guardrail]))
    harm, rest = first.split(". ", 1)
    assert harm == (
        "Harm, the trained model lora (seed 42): it loops more often (+0.180 [+0.050, +0.320]), repeats itself more "
        "(−0.270 [−0.300, −0.200]), answers at greater length (+0.400 [+0.200, +0.600]) and breaks the guardrail on "
        "red-flag recall"
    )
    assert "better on ROUGE-1" in rest and "identit" not in first
    (first, _) = verdict(results(*rows, explored=explored[1:2]))
    assert "none was seen on invented identity (share), which does not exclude any" in first


def test_what_remains_possible_is_said_on_each_metrics_own_scale() -> None:
    rows = [difference("rouge1", 0.0, 1, low=-0.7, high=0.011), difference("nll", 1.0, 1, low=-0.1, high=3.5)]
    _, second = verdict(results(*rows))
    assert "ROUGE-1 from 0.700 worse to 0.011 better remains possible" in second
    assert "nats per answer token (mean of answers) from 3.500 worse to 0.100 better remains possible" in second
    _, second = verdict(results(difference("rouge1", 0.02, 0.06, low=0.001, high=0.04)))
    assert "from 0.001 better to 0.040 better remains possible, not shown after the correction" in second
    _, second = verdict(results(difference("rouge1", 0.02, 1.0, low=None, high=None, no_interval="3 groups")))
    assert "ROUGE-1 open (3 groups)" in second


def test_only_several_seeds_speak_of_a_method() -> None:
    arms = [difference("rouge1", 0.05, 0.001, arm) for arm in ("lora", "lora_seed1", "full")]
    method = {**difference("rouge1", 0.04, 0.3), "method": "lora", "seeds": 2}
    first, second = verdict(results(*arms, seeds=[method]))
    assert "The method lora (2 seeds) against the untrained model, on 50 held-out dialogues: no difference" in first
    assert "The trained model full against" in first and "The trained model lora" not in first
    assert "1 against the baseline over seeds" in second
    assert "The trained model full was trained once, so this is about it and not about a method." in first


def test_arms_are_compared_with_each_other_and_with_answers_without_a_model() -> None:
    row = difference("rouge1", 0.05, 0.001)
    floors = [
        {**difference("rouge1", 0.02, 0.01), "baseline": "constant"},
        {**difference("rouge1", -0.02, 0.01), "baseline": "nearest"},
        {**difference("bleu", 2.0, 0.01), "baseline": "nearest"},
    ]
    pair = {**difference("rouge1", -0.03, 0.01), "baseline": "full"}
    first, second = verdict(results(row, floor_comparisons=floors, pairs=[pair]))
    assert "lora is better than every answer without a model on mean sentence BLEU (0 to 100) and worse than" in first
    assert "lora minus full: ROUGE-1 −0.030 [−0.040, −0.020] worse, p = 0.010." in second
    assert "1 against the baseline, 1 against other arms and 3 against naive baselines" in second


def test_without_arms_or_tests_it_says_so() -> None:
    first, second = verdict(results())
    assert first.startswith("Nothing can be said about fine-tuning yet") and "No arm was tested against ans" in first
    assert second == "No paired difference was tested."


def test_headings_and_table_hold_all_that_the_paragraphs_say() -> None:
    row = difference("rouge1", 0.05, 0.001)
    pair = {**difference("rouge1", -0.03, 0.9), "baseline": "full"}
    found = results(row, pairs=[pair])
    first, second = verdict(found)
    assert first == " ".join(sentence for said in grouped(found).values() for sentence in said)
    assert list(grouped(found)) == ["Against the untrained model", "Other ways of decoding", NO_MODEL]
    table = numbers(found)
    assert [cells[0] for cells in table.rows] == ["the trained model lora (seed 42)", "lora minus full"]
    assert table.rows[0][2:] == ["+0.050 [+0.040, +0.060]", "0.001", "better"]
    assert table.rows[1][4] == "not shown; from 0.040 worse to 0.020 worse remains possible, not shown after the " + (
        "correction although the interval excludes 0"
    )
    assert second.endswith(table.note)
    assert all(cells[4].removeprefix("not shown; ").split(",")[0] in second for cells in table.rows)
    assert numbers(results()).empty == "No paired difference was tested."


ROWS = st.lists(
    st.tuples(
        st.sampled_from(METRICS),
        st.sampled_from(["lora", "full", "qlora"]),
        st.floats(-2, 2, width=16),
        st.floats(0, 1),
        st.floats(0.001, 1),
    ),
    min_size=1,
    unique_by=lambda row: row[:2],
)


@settings(deadline=None, max_examples=200)
@given(ROWS)
def test_the_sentences_never_contradict_the_table(drawn: list[tuple[str, str, float, float, float]]) -> None:
    """Each metric stands once for each arm, on the side that the sign, the corrected p and the metric's meaning say."""
    rows = [
        difference(metric, value, p, arm, low=value - half, high=value + half) for metric, arm, value, p, half in drawn
    ]
    first, second = verdict(results(*rows))
    table = {(cells[0].split(" (seed")[0], cells[1]): cells[4] for cells in numbers(results(*rows)).rows}
    less_is_better = {"nll", "loop"}
    for row in rows:
        named = rf"trained model {row['arm']}(?: \(seed 42\))?"
        plain = re.search(
            rf"{named} against the untrained model, on 50 held-out dialogues: (.*?)\. (?:The|Each)", first
        )
        assert plain
        shown = row["p_holm"] < 0.05 and row["difference"] != 0
        up = (row["difference"] > 0) != (row["metric"] in less_is_better)
        words = ("higher", "lower") if row["metric"] == "length_ratio" else ("better", "worse")
        expected = words[0 if up else 1] if shown else "no difference was shown"
        for side in re.split(
            r"(?:, |; |^)(?=better on|worse on|higher on|lower on|no difference was shown on)", plain[1]
        ):
            if side:
                word, names = side.split(" on ", 1)
                assert (label(row["metric"]) in re.split(r", | and ", names)) == (word == expected)
        said = re.search(rf"(?:^|\. )The {named}: (.*?)\. (?:The|Differences)", second)
        assert said
        (mine,) = [part for part in said[1].split("; ") if part.startswith(f"{label(row['metric'])} ")]
        assert ("remains possible" in mine) == (not shown)
        assert table[f"the trained model {row['arm']}", label(row["metric"])].startswith(
            expected if shown else "not shown"
        )
        if shown:
            assert mine.split("] ")[1].split(",")[0] == expected
