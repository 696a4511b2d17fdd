"""The verdict follows the corrected p-values and the naive baselines."""

from pathlib import Path

import pytest

from medsft.reporting.report import write_report
from medsft.reporting.verdict import verdict
from synthetic_study import arguments, around, make_study, strict_json


@pytest.fixture(scope="module")
def full_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, _, _ = write_report(arguments(make_study(tmp_path_factory.mktemp("study"))))
    return folder


def test_verdict_names_differences_intervals_n_and_naive_baselines(full_report: Path) -> None:
    results = strict_json(full_report / "results.json")
    first, second = results["verdict"]
    assert "n = 44" in first and "lora scores above the baseline on ROUGE-1 by 0.040 [0.028, 0.052]" in first
    assert (
        "no difference from the baseline was shown for full" in first
        and "from −0.011 to +0.013 remains possible" in first
    )
    assert "0 of 4 for baseline, 4 for lora, 3 for qlora and 0 for full" in second
    assert "baseline is not clearly above the constant answer on ROUGE-2 (0.035 [0.020, 0.050] against 0.032)" in second
    assert "ROUGE-1" not in second


@pytest.mark.parametrize(
    ("p_holm", "difference", "expected"),
    [
        (0.049, 0.02, "scores above"),
        (0.049, -0.02, "scores below"),
        (0.051, 0.02, "no difference"),
        (0.051, -0.02, "no difference"),
    ],
)
def test_verdict_follows_the_corrected_p(p_holm: float, difference: float, expected: str) -> None:
    row = {"metric": "rouge1", "baseline": "baseline", "arm": "lora", "difference": difference, "n": 50}
    row |= {"low": difference - 0.01, "high": difference + 0.01, "p": 0.01, "p_holm": p_holm}
    arm = {"n": 50, "metrics": {"rouge1": around(0.2)}}
    results = {
        "arms": {"baseline": arm, "lora": arm},
        "floors": {},
        "comparisons": [row],
        "primary": ["rouge1"],
        "confidence": 0.95,
        "alpha": 0.05,
    }
    assert expected in verdict(results)[0]
    assert "No naive baseline was scored" in verdict(results)[1]
