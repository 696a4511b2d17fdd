"""The source study's statements on memory beside exact numbers."""

from medsft.models.parameter_counts import known_config
from medsft.source_study.memory_claims import STUDY_MODEL, TOTALS, claims


def test_published_totals_are_explained():
    rows = claims(known_config(STUDY_MODEL))
    assert sorted(TOTALS.values()) == [84 * 10**9, 98 * 10**9, 120 * 10**9]
    assert [row.published for row in rows[:3]] == ["84.0 GB", "98.0 GB", "120.0 GB"]
    assert [row.exact.split()[0] for row in rows[:3]] == ["86.9", "101.4", "115.9"]
    assert all("our reading" in row.remark for row in rows[:2])
