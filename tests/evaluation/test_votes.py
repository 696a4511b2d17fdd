"""Votes add up to what scipy says, in the file as on the page."""

from pathlib import Path

import pytest
from scipy.stats import binomtest

from medsft.evaluation.review import votes


@pytest.mark.parametrize(("wins", "losses"), [(0, 1), (3, 4), (9, 1), (50, 50), (0, 12)])
def test_interval_and_p_are_scipys(wins: int, losses: int, tmp_path: Path) -> None:
    independent = binomtest(wins, wins + losses)
    interval = independent.proportion_ci(method="wilson")
    for choice in ["a"] * wins + ["b"] * losses:
        votes.store(tmp_path / "votes.jsonl", {"arms": ["a", "b"], "choice": choice})
    (row,) = votes.table(tmp_path / "votes.jsonl")
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high), abs=1e-9)
    assert row["p"] == pytest.approx(independent.pvalue, abs=1e-9)


def test_ties_alone_say_nothing(tmp_path: Path) -> None:
    votes.store(tmp_path / "votes.jsonl", {"arms": ["a", "b"], "choice": votes.TIE})
    (row,) = votes.table(tmp_path / "votes.jsonl")
    assert (row["share"], row["low"], row["high"], row["p"]) == (None, 0.0, 1.0, 1.0)


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
