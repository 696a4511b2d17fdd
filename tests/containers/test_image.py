"""The cpu image as users run it: read-only, without network, as any uid, stopped during training."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from conftest import ROOT
from containers.daemons import wait_until
from containers.engine import LOCKED_DOWN, Docker
from retries import note_retry

# ten times what an idle machine with two cores takes
pytestmark = [pytest.mark.containers, pytest.mark.slow, pytest.mark.timeout(3600)]
NOBODY_KNOWS = 12_345  # a uid without an entry in the image's /etc/passwd


def workspace(folder: Path, uid: int) -> Path:
    """A folder for studies that belongs to this uid, as a user's own does."""
    folder.mkdir(exist_ok=True)
    os.chown(folder, uid, uid)
    return folder


def test_the_image_holds_the_recipes_and_nothing_else(docker: Docker, image: str) -> None:
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
    assert not [line for line in inside.splitlines() if line.startswith("./")]  # nothing that its user can change


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
    assert set(results["arms"]) == {"baseline", "baseline_prompted", "baseline_fewshot", "lora"}
    assert all(arm["n"] == 4 for arm in results["arms"].values())
    assert (runs / "small" / "lora" / "adapter" / "adapter_model.safetensors").exists()
    assert {path.stat().st_uid for path in runs.rglob("*")} == {10_001}


def test_stopped_as_another_user_it_leaves_a_checkpoint_and_continues(
    docker: Docker, image: str, small_configs: Path, readable_model: Path, tmp_path: Path
) -> None:
    """`docker stop` while `accelerate launch` trains; the launcher itself dies of the signal at once.

    Where the training was over before the stop reached it, it is repeated once with ten times the steps.
    """
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
    recipe += ("--save_steps", "10000", "--eval_strategy", "no", "--model_name_or_path", "/model")

    def train_and_stop(study: str, steps: int) -> tuple[tuple[str, ...], str]:
        """The command that trains, and the log of its run until it was stopped."""
        command = (*recipe, "--study_dir", f"runs/{study}", "--max_steps", str(steps))
        docker.call("run", "--detach", f"--name={study}", *options, image, *command)
        running = ("inspect", "--format={{.State.Running}}", study)

        def trains_or_ended() -> bool:
            return "s a step" in docker.call("logs", study).stdout or docker.call(*running).stdout.strip() != "true"

        wait_until(trains_or_ended, "the first step", 1200)
        docker.call("stop", "--time=600", study)
        log = docker.call("logs", study).stdout
        docker.call("rm", study)
        return command, log

    study, steps = "stopped", 60
    command, log = train_and_stop(study, steps)
    if (runs / study / "lora" / "train.json").exists():
        note_retry("stopped container", f"{steps} steps were over before docker stop arrived")
        study, steps = "stopped_later", 600
        command, log = train_and_stop(study, steps)
    arm = runs / study / "lora"
    checkpoints = [path.parent for path in arm.glob("checkpoint-*/manifest.json")]
    assert len(checkpoints) == 1, log[-3000:]
    assert not (arm / "train.json").exists()
    assert {path.stat().st_uid for path in runs.rglob("*")} == {NOBODY_KNOWS}

    log = docker.call("run", "--rm", *options, image, *command).stdout
    assert f"continuing from runs/{study}/lora/{checkpoints[0].name}" in log
    assert json.loads((arm / "train.json").read_text())["steps"] == steps


def test_doctor_and_plan_see_the_limits_of_the_container(docker: Docker, image: str, tmp_path: Path) -> None:
    runs = workspace(tmp_path / "runs", 10_001)
    limits = ("--memory=4g", "--cpus=1", "--shm-size=64m", f"--volume={runs}:/workspace", "--tmpfs=/cache:mode=1777")
    both = "make doctor && make plan CONFIG=demo STUDY=demo"
    output = docker.call("run", "--rm", *LOCKED_DOWN, *limits, image, "sh", "-c", both).stdout
    assert "of 4.3 GB (limit of this container)" in output
    assert "--shm-size" in output
    plan = json.loads((runs / "demo" / "plan.json").read_text())
    assert plan["hardware"]["host_bytes"] == 4 * 2**30
    assert plan["hardware"]["cpus"] == 1


def test_a_workspace_that_cannot_be_written_is_refused_at_once(docker: Docker, image: str, tmp_path: Path) -> None:
    runs = workspace(tmp_path / "runs", NOBODY_KNOWS)
    runs.chmod(0o755)
    done = docker.call("run", "--rm", f"--volume={runs}:/workspace", image, "make", "data", check=False)
    assert done.returncode == 2
    assert "uid 10001 cannot write to /workspace" in done.stdout
    assert '--user "$(id -u):$(id -g)"' in done.stdout


def test_the_context_is_small() -> None:
    """The build context is an allow-list, which no study or key can enter."""
    tracked = subprocess.run(
        ["git", "ls-files", "recipes", "accelerate_configs"], cwd=ROOT, capture_output=True, text=True
    )
    size = sum((ROOT / name).stat().st_size for name in tracked.stdout.split())
    assert size < 10e6
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "**"
