"""Traces against peaks that others measured on a GPU (../shared/data, not part of this repository)."""

import sys

import pytest

from conftest import ROOT
from medsft.files import read_jsonl

sys.path.insert(0, str(ROOT / "tests" / "bench"))
import memory as bench

FILE = ROOT.parent / "shared" / "data" / "gpu_memory_points.jsonl"


@pytest.mark.slow
@pytest.mark.skipif(not FILE.is_file(), reason=f"no {FILE.name}")
def test_five_methods_within_four_percent():
    kinds = ("LORA", "IA3", "VERA", "OFT")
    points = [p for p in read_jsonl(FILE) if p["peft_config"] and p["peft_config"]["peft_type"] in kinds]
    errors = {p["name"]: bench.traced_point(p) / p["max_memory_reserved_bytes"] - 1 for p in points}
    assert len(errors) >= 5
    assert max(abs(e) for e in errors.values()) <= 0.04, errors
    assert sum(abs(e) for e in errors.values()) / len(errors) <= 0.03
