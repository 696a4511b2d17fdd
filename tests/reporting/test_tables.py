"""The tables of the report: rows of what was found, a reason where nothing was, ablations among them."""

from pathlib import Path

import pytest

from medsft.reporting import ablation_report, results, study, tables
from medsft.result_records import Results
from synthetic_study import around, dump, make_study, strict_json


@pytest.fixture
def found(tmp_path: Path) -> Results:
    return results.gather(study.load_study(make_study(tmp_path, ("baseline", "lora"))), "", "", None)


def test_a_table_without_rows_says_why(found: Results) -> None:
    empty = {table.title: table.empty for table in tables.evaluation_tables(found) if not table.rows}
    assert empty["Training seeds"].startswith("No method was compared over several seeds")
    assert empty["Sampled answers"].endswith("(generate.py --do_sample).")


def test_naive_baselines_stand_beside_the_arms(found: Results) -> None:
    found["floors"]["shuffled"]["metrics"]["copy_8"] = {**around(0.1), "n": 44}
    found["arms"]["lora"]["metrics"]["copy_8"] = {**around(0.2), "n": 44}
    rows = tables.copying(found).rows
    assert [row[:2] for row in rows] == [
        ["lora", "0.200 [0.185, 0.215]"],
        ["naive baseline: shuffled", "0.100 [0.085, 0.115]"],
    ]


def test_energy_has_a_row_only_where_a_device_reported_it(found: Results) -> None:
    assert not {"energy_joules", "energy_counted_by"} & tables.cost_labels(found).keys()
    found["cost"]["lora"]["energy_joules"] = 5.0
    assert "energy_joules" in tables.cost_labels(found)
    assert set(tables.COST_LABELS) == set(results.Cost.__annotations__)


def test_prices_follow_the_wall_time(found: Results) -> None:
    cost = found["cost"]["lora"]
    assert results.prices({"lora": cost, "full": {**cost, "wall_seconds": None}}, 2.0) == {
        "lora": pytest.approx(93.4 / 3600 * 2.0, abs=1e-4),
        "full": None,
    }


def test_only_changes_that_an_interval_shows_are_named(tmp_path: Path) -> None:
    path = make_study(tmp_path, ("baseline",))
    row = {"arm": "fault_padding", "fault": "every row padded to 512"}
    row |= {"metrics": {"nll": {"difference": 0.1, "low": 0.05, "high": 0.15, "n": 40}}}
    row["metrics"]["rouge1"] = {"difference": 0.1, "low": -0.05, "high": 0.25, "n": 40}
    row["speed"] = {"ratio": 1.5, "low": 1.4, "high": 1.6, "steps": 20}
    silent = {**row, "arm": "paper", "fault": "all", "metrics": {"rouge1": row["metrics"]["rouge1"]}, "speed": None}
    dump(path / "comparison.json", strict_json(path / "comparison.json") | {"faults": [row, silent]})
    found = results.gather(study.load_study(path), "", "", None)
    (sentence,) = ablation_report.verdict(found)
    assert (
        "nats per answer token (mean of answers) +0.100 [+0.050, +0.150], a step takes 1.50 [1.40, 1.60] times as long"
        in sentence
    )
    assert "ROUGE-1" not in sentence and "no change was seen for: all" in sentence
    (drawn,) = [table for table in ablation_report.tables(found) if table.title == "Each fault alone"]
    assert drawn.rows[1][1:3] == ["–", "–"] and drawn.rows[0][6] == "1.50 [1.40, 1.60]"
