"""What an arm lost: known tables of pairs, the margin, and that interval and tests agree."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from medsft.errors import UserError
from medsft.evaluation.forgetting import comparison
from medsft.evaluation.forgetting.answering import Row
from medsft.evaluation.statistics.paired_tests import paired_share
from medsft.evaluation.statistics.proportions import non_inferiority_p


def rows(right: list[int], kind: str = "general") -> list[Row]:
    return [
        {"id": f"{kind}-{n}", "kind": kind, "correct": correct, "answer": "A", "item": f"{kind}{n}"}
        for n, correct in enumerate(right)
    ]


def lost(before: list[Row], after: list[Row], margin: float = 0.1, chance: float = 0.0) -> dict[str, comparison.Lost]:
    chances = {row["id"]: chance for row in after}
    return {row["kind"]: row for row in comparison.compare("lora", before, after, chances, margin, 0.95)}


def test_an_identical_arm_lost_nothing_and_is_within_the_margin() -> None:
    before = rows([1, 0] * 100)
    found = lost(before, before)["overall"]
    assert (found["difference"], found["lost"], found["gained"], found["p"]) == (0, 0, 0, 1)
    assert found["low"] is not None and -0.03 < found["low"] < 0 and found["quality"] == "equivalent"


def test_a_loss_beyond_the_margin_is_told_from_one_that_cannot_be_told() -> None:
    before = rows([1] * 120 + [0] * 80)
    assert lost(before, rows([1] * 40 + [0] * 160))["overall"]["quality"] == "inferior"
    assert lost(before, rows([1] * 100 + [0] * 100))["overall"]["quality"] == "worse"
    assert lost(before[:30], rows([1] * 28 + [0] * 2))["overall"]["quality"] == "inconclusive"
    few = lost(before[:5], rows([1] * 5))["overall"]
    assert (few["low"], few["high"], few["quality"]) == (None, None, "inconclusive")


def test_where_the_baseline_has_less_than_the_margin_to_lose_the_test_is_vacuous() -> None:
    before = rows([1] * 30 + [0] * 70)
    assert lost(before, rows([0] * 100), chance=0.25)["overall"]["quality"] == "vacuous"
    assert lost(before, rows([0] * 100), chance=0.1)["overall"]["quality"] == "inferior"


def test_kinds_are_tested_apart_and_corrected_together() -> None:
    before = rows([1] * 40) + rows([1] * 40, "medical")
    after = rows([1] * 40) + rows([0] * 8 + [1] * 32, "medical")
    found = lost(before, after)
    assert [*found] == ["overall", "general", "medical"]
    assert (found["overall"]["n"], found["overall"]["baseline_correct"], found["overall"]["arm_correct"]) == (
        80,
        80,
        72,
    )
    assert found["medical"]["p"] == pytest.approx(2 / 2**8) and found["medical"]["p_holm"] == pytest.approx(4 / 2**8)
    assert found["general"]["p_holm"] == 1 and found["overall"]["p_holm"] == found["overall"]["p"]


@pytest.mark.parametrize(("gained", "fewer"), [(0, 0), (0, 5), (3, 9), (10, 10), (1, 30)])
def test_p_is_that_of_the_exact_binomial_test(gained: int, fewer: int) -> None:
    expected = binomtest(gained, gained + fewer).pvalue if gained + fewer else 1.0
    assert (
        comparison.mcnemar(gained, fewer) == pytest.approx(expected) == pytest.approx(comparison.mcnemar(fewer, gained))
    )


@settings(deadline=None, max_examples=200)
@given(st.integers(10, 120), st.data(), st.sampled_from([0.05, 0.1, 0.2]))
def test_the_test_of_the_margin_agrees_with_the_lower_end_of_the_interval(
    n: int, data: st.DataObject, margin: float
) -> None:
    gained = data.draw(st.integers(0, n))
    fewer = data.draw(st.integers(0, n - gained))
    changes = [1] * gained + [-1] * fewer + [0] * (n - gained - fewer)
    found = paired_share(changes, [*range(n)], 0.95)
    p = non_inferiority_p(gained, fewer, n, margin)
    assert found.low is not None and 0 <= p <= 1
    if not math.isclose(found.low, -margin, abs_tol=1e-6):
        assert (p < 0.025) == (found.low > -margin)


def test_accuracies_have_intervals_and_the_other_likelihood() -> None:
    with_both = [row | {"correct_normalised": 1} for row in rows([1, 0, 0, 0])]
    found = comparison.accuracies([*with_both, *rows([1], "reasoning")], 0.95)
    assert found["general"]["accuracy"] == 0.25 and found["general"]["normalised"] == 1
    assert "normalised" not in found["reasoning"] and "normalised" not in found["overall"]
    assert found["overall"]["n"] == 5 and found["overall"]["low"] < 0.4 < found["overall"]["high"]


def test_only_the_same_items_are_paired() -> None:
    before = rows([1, 1, 1])
    assert lost(before, rows([1, 0]))["overall"]["n"] == 2
    with pytest.raises(UserError, match="item 'general-0' is not the one"):
        lost(before, [{**before[0], "item": "other"}])
    with pytest.raises(UserError, match="no item that the baseline answered"):
        lost(before, rows([1], "medical"))
