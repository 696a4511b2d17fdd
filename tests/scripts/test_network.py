"""No process of a study opens a socket beyond loopback: every socket call is watched, offline where possible."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import RECIPES, ROOT

pytestmark = pytest.mark.slow
WATCH = ROOT / "tests" / "watch_sockets"
DEMO = RECIPES / "configs" / "demo"
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "CI")


def watched(seen: Path, *words: object, alone: bool = False) -> subprocess.CompletedProcess[str]:
    """Run Python under the watch, with none of the switches that keep the hub's libraries quiet."""
    environment = {name: value for name, value in os.environ.items() if name not in OFFLINE}
    environment |= {"PYTHONPATH": str(WATCH), "SOCKETS_SEEN": str(seen)}
    command = [*(["unshare", "-rn"] if alone else []), sys.executable, *map(str, words)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def can_be_alone() -> bool:
    """Whether a process may have a network namespace of its own here."""
    binary = shutil.which("unshare")
    return binary is not None and subprocess.run([binary, "-rn", "true"], capture_output=True).returncode == 0


def test_the_watch_sees_a_socket_beyond_loopback(tmp_path: Path) -> None:
    code = "import socket; [socket.socket().connect_ex((host, 9)) for host in ('127.0.0.1', '192.0.2.1')]"
    watched(tmp_path / "seen", "-c", code, alone=can_be_alone())
    assert (tmp_path / "seen").read_text() == "socket.connect 192.0.2.1 by -c\n"


def test_no_stage_opens_a_socket_beyond_loopback(tiny_model: Path, tmp_path: Path) -> None:
    study, seen, alone = tmp_path / "study", tmp_path / "seen", can_be_alone()
    at, model = ("--study_dir", study), ("--model_name_or_path", tiny_model)
    train = ("--max_steps", 2, "--max_train_rows", 8, "--eval_strategy", "no", "--save_strategy", "no", *at, *model)
    answer = (*at, *model, "--max_rows", 4, "--max_new_tokens", 4)
    stages: list[tuple[object, ...]] = [
        ("prepare_data.py", *at, *model, "--max_rows", 96),
        ("plan_memory.py", *at, *model),
        ("sft_lora.py", "--config", DEMO / "lora.yaml", *train),
        ("generate.py", *answer, "--arm", "baseline"),
        ("generate.py", *answer, "--arm", "lora"),
        ("score.py", *at, "--resamples", 200),
        ("report.py", *at),
    ]
    for script, *words in stages:
        done = watched(seen, RECIPES / str(script), *words, alone=alone)
        assert done.returncode == 0, f"{script}: {done.stderr[-1500:]}"
        assert not seen.exists(), seen.read_text()
