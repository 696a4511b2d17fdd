"""The table of docs/memory_plan.md is what the plan says today."""

import pytest

from conftest import ROOT
from medsft.errors import UserError
from medsft.hardware.specs import machine
from medsft.reporting.plan.docs_plan_table import BEGIN, END, update


@pytest.mark.slow
def test_the_table_is_up_to_date(tmp_path):
    copy = tmp_path / "memory_plan.md"
    copy.write_text((ROOT / "docs" / "memory_plan.md").read_text(encoding="utf-8"), encoding="utf-8")
    assert not update(copy, machine(".")), "run: python recipes/plan_memory.py --ladder_table docs/memory_plan.md"
    table = copy.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]
    assert "| full_fp32 | 126" in table and "**recommended**" in table


@pytest.mark.parametrize("text", ["nothing here", f"{END}", f"{BEGIN}{BEGIN}{END}"])
def test_marks_are_needed(tmp_path, text):
    file = tmp_path / "x.md"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="expected one line"):
        update(file, machine("."))
    assert file.read_text(encoding="utf-8") == text
