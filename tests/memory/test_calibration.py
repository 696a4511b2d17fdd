"""What a short run corrects on a machine, and the comparison of prediction and measurement."""

import pytest

from medsft.hardware import specs
from medsft.memory import calibration

HERE = specs.machine(".")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSFT_CACHE", str(tmp_path))


def test_a_run_replaces_the_defaults_on_its_machine_only():
    gpu, laptop = specs.described(HERE, "l4"), specs.described(HERE, "none")
    assert calibration.of_machine(gpu) == calibration.WITH_GPU
    found = calibration.calibrate(gpu, 100, {"reserved": 104, "used": 154}, {"resident": 70})
    assert found == calibration.Corrections(50, 0.04, 70) == calibration.of_machine(gpu)
    assert calibration.of_machine(laptop) == calibration.ON_CPU
    assert calibration.calibrate(laptop, 100, None, {"before": 40, "resident": 155}) == calibration.Corrections(
        0, 0.15, 40
    )


@pytest.mark.parametrize(
    ("measured", "gaps", "words"),
    [
        ({"device_bytes": 10.5, "host_bytes": 9.5}, {"device_bytes": 0.05, "host_bytes": -0.05}, ""),
        ({"device_bytes": 0, "host_bytes": 15}, {"host_bytes": 0.5}, "host memory by +50%"),
        ({"device_bytes": 7.9, "host_bytes": 10}, {"device_bytes": -0.21, "host_bytes": 0}, "plan.json"),
        ({"device_bytes": 10, "host_bytes": 8.1}, {"device_bytes": 0, "host_bytes": -0.19}, ""),
    ],
)
def test_a_gap_over_a_tenth_is_a_warning_beyond_the_allowance(measured, gaps, words):
    """A plan may hold two gigabytes too many for the process and the context: allowances."""
    measured = {name: int(size * 1e9) for name, size in measured.items()}
    found, warning = calibration.compare({"device_bytes": 10**10, "host_bytes": 10**10}, measured)
    assert found == pytest.approx(gaps)
    assert words in warning and bool(warning) == bool(words)
