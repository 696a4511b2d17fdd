"""What a processor that is slow in bf16 chooses, and the two cases in which bf16 stays all the same."""

import json
import os
from pathlib import Path

import pytest

from medsft.hardware import matmul_benchmark
from medsft.training import auto_options

SLOW, FAST = {"bfloat16": 1.0, "float32": 90.0}, {"bfloat16": 300.0, "float32": 90.0}


@pytest.mark.parametrize(
    ("speed", "bf16", "states", "float32"),
    [
        (SLOW, "auto", False, True),
        (SLOW, True, False, False),  # the user's own file: DeepSpeed would refuse to disagree with it
        (SLOW, "auto", True, False),
        (FAST, "auto", False, False),
    ],
)
def test_precision_follows_the_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, speed: dict[str, float], bf16: object, states: bool, float32: bool
) -> None:
    config, engine = tmp_path / "full.yaml", tmp_path / "engine.json"
    config.write_text(f"use_cpu: true\nbf16: true\nbf16_states: {str(states).lower()}\n")
    engine.write_text(json.dumps({"bf16": {"enabled": bf16}}))
    monkeypatch.setattr(matmul_benchmark, "measured", lambda: speed)
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", str(engine))
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    chosen = auto_options.choose(["--config", str(config)])
    assert ("float32" in chosen) is float32
    assert os.environ["ACCELERATE_MIXED_PRECISION"] == ("no" if float32 else "bf16")
    assert "eager" in chosen
