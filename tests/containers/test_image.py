"""The cpu image as users run it: read-only, without network, as any uid, stopped in the middle."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from conftest import ROOT
from containers.engine import LOCKED_DOWN, Docker

# ten times what a quiet machine of two cores takes
pytestmark = [pytest.mark.containers, pytest.mark.slow, pytest.mark.timeout(1800)]
NOBODY_KNOWS = 12_345  # a uid without an entry in the image's /etc/passwd


def workspace(folder: Path, uid: int) -> Path:
    """A folder for studies that belongs to this uid, as a user's own does."""
    folder.mkdir(exist_ok=True)
    os.chown(folder, uid, uid)
    return folder


def test_what_is_in_it(docker: Docker, image: str) -> None:
    (facts,) = json.loads(docker.call("inspect", image).stdout)
    assert facts["Config"]["User"] == "10001:0"
    assert facts["Config"]["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert not [word for word in facts["Config"]["Env"] if "TOKEN" in word or "NVIDIA_VISIBLE" in word]
    print(f"cpu image: {facts['Size'] / 1e9:.2f} GB")
    assert facts["Size"] < 3e9
    look = "ls -A; ls -A recipes; find . -writable ! -type l -print -quit; pip check; ls /wheelhouse"
    inside = docker.call("run", "--rm", *LOCKED_DOWN, "--entrypoint=sh", image, "-c", look, check=False).stdout
    assert "sft_lora.py" in inside
    assert "No broken requirements" in inside or "is not installed" in inside
    for unwanted in ("tests", ".git", ".ci", ".venv/bin/pytest", "/wheelhouse/"):
        assert unwanted not in inside.splitlines()
    assert not [line for line in inside.splitlines() if line.startswith("./")]  # nothing that its user could change


def test_a_study_runs_read_only_and_without_network(
    docker: Docker, image: str, small_configs: Path, tmp_path: Path
) -> None:
    """Real stages on the real small model, as the image's own user, in one `make`."""
    runs = workspace(tmp_path / "runs", 10_001)
    mounts = (
        "--volume=medsft-cache:/cache",
        f"--volume={runs}:/workspace",
        f"--volume={small_configs}:/opt/medsft/recipes/configs/small:ro",
    )
    stages = ("data", "lora", "evaluate", "report", "CONFIG=small", "STUDY=small")
    docker.call("run", "--rm", *LOCKED_DOWN, *mounts, image, "make", *stages)
    results = json.loads((runs / "small" / "report" / "results.json").read_text())
    assert set(results["arms"]) == {"baseline", "lora"}
    assert all(arm["n"] == 4 for arm in results["arms"].values())
    assert (runs / "small" / "lora" / "adapter" / "adapter_model.safetensors").exists()
    assert {path.stat().st_uid for path in runs.rglob("*")} == {10_001}


def test_stopped_as_another_user_it_leaves_a_checkpoint_and_continues(
    docker: Docker, image: str, small_configs: Path, readable_model: Path, tmp_path: Path
) -> None:
    """`docker stop` while `accelerate launch` trains; the launcher itself dies of the signal at once."""
    runs = workspace(tmp_path / "runs", NOBODY_KNOWS)
    inputs = (f"--volume={small_configs}:/opt/medsft/recipes/configs/small:ro", f"--volume={readable_model}:/model:ro")
    options = (
        *LOCKED_DOWN,
        "--volume=another-cache:/cache",
        f"--volume={runs}:/workspace",
        *inputs,
        f"--user={NOBODY_KNOWS}:{NOBODY_KNOWS}",
    )
    recipe = ("accelerate", "launch", "recipes/sft_lora.py", "--config", "recipes/configs/small/lora.yaml")
    recipe += ("--study_dir", "runs/stopped", "--max_steps", "60", "--save_steps", "100", "--eval_strategy", "no")
    recipe += ("--model_name_or_path", "/model")
    arm = runs / "stopped" / "lora"

    docker.call("run", "--detach", "--name=stopped", *options, image, *recipe)
    deadline = time.monotonic() + 1200
    running = ("inspect", "--format={{.State.Running}}", "stopped")
    while "s a step" not in docker.call("logs", "stopped").stdout and time.monotonic() < deadline:
        assert docker.call(*running).stdout.strip() == "true", docker.call("logs", "stopped").stdout[-3000:]
        time.sleep(0.3)
    docker.call("stop", "--time=300", "stopped")
    said = docker.call("logs", "stopped").stdout
    docker.call("rm", "stopped")
    sealed = list(arm.glob("checkpoint-*/manifest.json"))
    assert len(sealed) == 1, said[-3000:]
    assert not (arm / "train.json").exists()
    assert {path.stat().st_uid for path in runs.rglob("*")} == {NOBODY_KNOWS}

    said = docker.call("run", "--rm", *options, image, *recipe).stdout
    assert f"continuing from runs/stopped/lora/{sealed[0].parent.name}" in said
    assert json.loads((arm / "train.json").read_text())["steps"] == 60


def test_doctor_and_plan_see_the_limits_of_the_container(docker: Docker, image: str, tmp_path: Path) -> None:
    runs = workspace(tmp_path / "runs", 10_001)
    limits = ("--memory=4g", "--cpus=1", "--shm-size=64m", f"--volume={runs}:/workspace", "--tmpfs=/cache:mode=1777")
    both = "make doctor && make plan CONFIG=demo STUDY=demo"
    said = docker.call("run", "--rm", *LOCKED_DOWN, *limits, image, "sh", "-c", both).stdout
    assert "of 4.3 GB (limit of this container)" in said
    assert "--shm-size" in said
    plan = json.loads((runs / "demo" / "plan.json").read_text())
    assert plan["hardware"]["host_bytes"] == 4 * 2**30
    assert plan["hardware"]["cpus"] == 1


def test_a_workspace_that_cannot_be_written_is_said_at_once(docker: Docker, image: str, tmp_path: Path) -> None:
    runs = workspace(tmp_path / "runs", NOBODY_KNOWS)
    runs.chmod(0o755)
    done = docker.call("run", "--rm", f"--volume={runs}:/workspace", image, "make", "data", check=False)
    assert done.returncode == 2
    assert "uid 10001 cannot write to /workspace" in done.stdout
    assert '--user "$(id -u):$(id -g)"' in done.stdout


def test_the_context_is_small() -> None:
    """What is sent to the engine: the allow-list, which no study or key can enter."""
    tracked = subprocess.run(
        ["git", "ls-files", "recipes", "accelerate_configs"], cwd=ROOT, capture_output=True, text=True
    )
    size = sum((ROOT / name).stat().st_size for name in tracked.stdout.split())
    assert size < 10e6
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "**"
