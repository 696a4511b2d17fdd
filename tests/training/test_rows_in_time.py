"""How many rows the demo's arms train on: by the measured speed, the same for every arm, and decided once."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from conftest import RECIPES
from medsft.files import read_json, write_json
from medsft.hardware import matmul_benchmark
from medsft.models.parameter_counts import known_config, sizes_of
from medsft.training.tuning import rows_in_time

DEMO = RECIPES / "configs" / "demo"


def report(rows: int, tokens: int) -> dict:
    return {"splits": {"train": {"rows": rows}}, "tokens": {"train": {"total": tokens}}}


@pytest.mark.parametrize(
    ("speed", "there", "taken"),
    [
        (10.0, 260, 48),  # never fewer than show that it works
        (445.0, 260, 84),  # 5 minutes at 30 % of it are 40 Tflop: 86 rows of 245 tokens at 14 x 134.5 M each
        (1700.0, 260, 260),  # one epoch, where bf16 matrix instructions are
        (445.0, 40, 40),
    ],
)
def test_rows_follow_the_measured_speed(monkeypatch: pytest.MonkeyPatch, speed: float, there: int, taken: int) -> None:
    monkeypatch.setattr(matmul_benchmark, "measured", lambda: {"float32": speed / 2, "bfloat16": speed})
    found = rows_in_time.decide(DEMO, report(there, 245 * there), 5, {})
    assert found["rows"] == taken
    assert f"of {there}, all arms in 5 minutes" in str(found["reason"])
    assert taken % 4 == 0


def test_a_sweep_knows_the_speed_better_than_matrix_products(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """300 s at 200, 250 and 125 tokens a second: 17 s for 1,000 tokens of all three, so 72 rows of 245."""
    monkeypatch.setattr(matmul_benchmark, "measured", lambda: pytest.fail("it was not asked"))
    for arm, speeds in {"lora": [190.0, 200.0, 260.0], "qlora": [250.0], "full": [125.0, None]}.items():
        assert rows_in_time.speeds(tmp_path) == {}  # not before all three have run
        for at, speed in enumerate(speeds):
            folder = tmp_path / f"{arm}_0.00{at}_6_steps"
            folder.mkdir()
            write_json(folder / "train.json", {"tokens_per_second": speed})
    measured = rows_in_time.speeds(tmp_path)
    assert measured == {"lora": 200.0, "qlora": 250.0, "full": 125.0}
    found = rows_in_time.decide(DEMO, report(260, 245 * 260), 5, measured)
    assert found["rows"] == 72 and "at the sweep's 200, 250, 125 tokens a second" in str(found["reason"])


def test_the_time_is_what_the_operations_take() -> None:
    parameters = sizes_of(known_config("embedded/SmolLM2-135M-Instruct")).parameters
    rows = rows_in_time.fitting(5, 400, parameters, 245)
    seconds = rows * 245 * parameters * (4 + 4 + 6) / (400e9 * rows_in_time.SHARE)
    assert 297 < seconds <= 300


def test_it_is_decided_once_for_a_study(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_json(tmp_path / "data" / "data_report.json", report(260, 63_705))
    command = [sys.executable, "-m", "medsft.training.tuning.rows_in_time", str(DEMO), str(tmp_path)]
    first, second = (
        subprocess.run([*command, minutes], capture_output=True, text=True, check=True) for minutes in ("5", "500")
    )
    assert first.stdout == second.stdout == f"{read_json(tmp_path / 'train_rows.json')['rows']}\n"
    assert "of 260, all arms in 5 minutes" in second.stderr
    assert "name another study for 500 minutes" in second.stderr and "another study" not in first.stderr


def test_without_prepared_rows_the_recipes_number_is_taken(tmp_path: Path) -> None:
    taken = rows_in_time.decide(DEMO, None, 5, {})["rows"]
    assert taken == yaml.safe_load((DEMO / "lora.yaml").read_text())["max_train_rows"]
