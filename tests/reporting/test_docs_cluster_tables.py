"""The tables of docs/beyond_one_machine.md are what the formulas and the plan say today."""

import pytest

from conftest import ROOT
from medsft.hardware.specs import machine
from medsft.reporting.plan import docs_cluster_tables as tables

PAGE = ROOT / "docs" / "beyond_one_machine.md"


def between(begin: str, end: str) -> str:
    return PAGE.read_text(encoding="utf-8").split(begin)[1].split(end)[0].strip()


def test_the_table_of_answers_is_up_to_date() -> None:
    shown = between(tables.ANSWERS, tables.END_OF_ANSWERS)
    assert shown == tables.answers_table(machine(".")), f"run: {tables.COMMAND}"
    rows = shown.splitlines()[2:]
    assert len(rows) == 9 and all(row.endswith("| calculated |") for row in rows)


@pytest.mark.slow
def test_the_table_of_training_is_up_to_date() -> None:
    shown = between(tables.TRAINING, tables.END_OF_TRAINING)
    assert shown == tables.training_table(machine(".")), f"run: {tables.COMMAND}"
    assert len(shown.splitlines()) == 2 + len(tables.TRAINED) * len(tables.NODE_GPUS)


def test_what_the_page_says_of_transformers_is_the_measured_speed() -> None:
    measured = next(line for line in (ROOT / "docs" / "speed.md").read_text().splitlines() if "| generation |" in line)
    speed = int(measured.split("|")[6])
    hours = tables.WORK.answers * tables.WORK.new / speed / 3600
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert f"wrote {speed} tokens a second" in text
    assert f"are {hours:.0f} hours, on 64 GPUs {hours / 64:.1f}" in text
