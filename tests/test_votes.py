"""Votes add up to what scipy says, in the file as on the page."""

from pathlib import Path

import pytest
from scipy.stats import binomtest

from medsft import votes


@pytest.mark.parametrize(("wins", "losses"), [(0, 1), (3, 4), (9, 1), (50, 50), (0, 12)])
def test_interval_and_p_are_scipys(wins: int, losses: int) -> None:
    independent = binomtest(wins, wins + losses)
    interval = independent.proportion_ci(method="wilson")
    assert votes.wilson(wins, wins + losses) == pytest.approx((interval.low, interval.high), abs=1e-9)
    assert votes.sign_test(wins, losses) == pytest.approx(independent.pvalue, abs=1e-9)


def test_nothing_observed_says_nothing() -> None:
    assert votes.wilson(0, 0) == (0.0, 1.0)
    assert votes.sign_test(0, 0) == 1.0


def test_each_pair_shown_together_is_counted(tmp_path: Path) -> None:
    file = tmp_path / "chat" / "votes.jsonl"
    assert votes.table(file) == []
    for choice in ("lora", "lora", "qlora", "baseline", votes.TIE):
        votes.store(file, {"arms": ["qlora", "baseline", "lora"], "choice": choice})
    votes.store(file, {"arms": ["baseline", "full"], "choice": "full"})
    rows = {(row["arm"], row["other"]): row for row in votes.table(file)}
    assert set(rows) == {("baseline", "full"), ("baseline", "lora"), ("baseline", "qlora"), ("lora", "qlora")}
    assert [rows["lora", "qlora"][key] for key in ("wins", "losses", "ties")] == [2, 1, 1]
    assert [rows["baseline", "full"][key] for key in ("wins", "losses", "ties")] == [0, 1, 0]
    assert rows["lora", "qlora"]["share"] == pytest.approx(2 / 3)
