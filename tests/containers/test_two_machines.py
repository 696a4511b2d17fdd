"""One LoRA over two machines: two network namespaces with a cable between them, and a Slurm of two nodes."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import ROOT
from containers import slurm
from containers.conftest import debian
from containers.daemons import wait_until

# ten times what a quiet machine of two cores takes
pytestmark = [pytest.mark.containers, pytest.mark.slow, pytest.mark.timeout(1800)]
DEMO = ROOT / "recipes" / "configs" / "demo"
TWO_PROCESSES = ("--config_file", str(ROOT / "accelerate_configs" / "multi_cpu.yaml"))


def recipe(study: Path, model: Path, *more: object) -> list[str]:
    """The demo's LoRA on a tiny model; `accelerate_configs/multi_cpu.yaml` in place of a GPU's."""
    words = (*TWO_PROCESSES, "recipes/sft_lora.py", "--config", DEMO / "lora.yaml", "--study_dir", study)
    micro = ("--per_device_train_batch_size", 2, "--gradient_accumulation_steps", 1)
    few = ("--max_train_rows", 40, *micro, "--eval_strategy", "no")
    return [str(word) for word in (*words, "--model_name_or_path", model, *few, *more)]


def record(study: Path) -> dict:
    return json.loads((study / "lora" / "train.json").read_text())


@pytest.fixture
def cable() -> Iterator[tuple[str, str]]:
    """Two network namespaces, 10.77.0.1 and 10.77.0.2, and nothing else that they could reach."""
    debian(ip="iproute2")
    names = (f"medsft-{os.getpid()}-0", f"medsft-{os.getpid()}-1")
    made = []
    try:
        for number, name in enumerate(names):
            run("ip", "netns", "add", name)
            made.append(name)
            run("ip", "-n", name, "link", "set", "lo", "up")
            if number == 1:
                run("ip", "link", "add", "wire", "netns", names[0], "type", "veth", "peer", "wire", "netns", names[1])
        for number, name in enumerate(names):
            run("ip", "-n", name, "address", "add", f"10.77.0.{number + 1}/24", "dev", "wire")
            run("ip", "-n", name, "link", "set", "wire", "up")
        yield names
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "delete", name])


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0 and command[:3] == ("ip", "netns", "add"):
        pytest.skip(f"NOT TESTED: this machine makes no network namespaces: {done.stderr.strip()}")
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


def test_two_machines_train_one_lora(
    cable: tuple[str, str], tiny_study: Path, tiny_model: Path, tmp_path: Path
) -> None:
    study = tmp_path / "study"
    subprocess.run(["cp", "-r", tiny_study, study], check=True)
    words = recipe(study, tiny_model, "--max_steps", 10, "--save_strategy", "no")
    processes = []
    for rank, name in enumerate(cable):
        where = {"NNODES": "2", "NODE_RANK": str(rank), "MASTER_ADDR": "10.77.0.1", "GLOO_SOCKET_IFNAME": "wire"}
        command = ["ip", "netns", "exec", name, sys.executable, "docker/cloud/launch.py", *words]
        with (tmp_path / f"{rank}.log").open("w") as log:
            env = os.environ | where | {"OMP_NUM_THREADS": "1"}
            started = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        processes.append(started)
    try:
        for rank, process in enumerate(processes):
            assert process.wait(timeout=900) == 0, (tmp_path / f"{rank}.log").read_text()[-3000:]
    finally:
        for process in processes:
            process.kill()

    show = ["ip", "-n", cable[1], "-s", "-json", "link", "show", "wire"]
    (wire,) = json.loads(subprocess.run(show, capture_output=True, text=True, check=True).stdout)
    crossed = min(wire["stats64"][way]["bytes"] for way in ("rx", "tx"))
    trained = record(study)
    assert trained["processes"] == 2
    assert trained["steps"] == 10
    # float32 gradients of the adapters, once a step and in both directions
    assert crossed > 10 * 4 * trained["trainable_parameters"]
    losses = [row["loss"] for row in trained["history"] if "loss" in row]
    assert losses[-1] < losses[0]
    assert (study / "lora" / "adapter" / "adapter_model.safetensors").exists()


def test_slurm_queues_the_job_again_and_it_continues(tiny_model: Path, tiny_study: Path, tmp_path: Path) -> None:
    """The shipped sbatch file on two nodes: stopped near its end of time, requeued by the operator, then finished."""
    debian(slurmctld="slurm-wlm", munged="munge")
    study = tmp_path / "study"
    subprocess.run(["cp", "-r", tiny_study, study], check=True)
    steps = ("--max_steps", 60, "--save_steps", 5, "--save_total_limit", 2)
    small = ("--nodes=2", "--cpus-per-task=1", "--time=30", f"--output={tmp_path}/%x-%j.log")
    script = str(ROOT / "docker" / "cloud" / "slurm" / "sft.sbatch")
    env = {"MEDSFT_RUN": sys.executable, "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    with slurm.cluster(tmp_path / "slurm") as here:
        here |= env
        job = slurm.submit(here, *small, script, *recipe(study, tiny_model, *steps), cwd=ROOT)
        log = tmp_path / f"medsft-{job}.log"

        def said() -> str:  # two machines write into one log, where a character may be cut
            return log.read_text(errors="replace")

        def sealed() -> int:
            done = [path.parent.name.split("-")[1] for path in study.glob("lora/checkpoint-*/manifest.json")]
            return max(map(int, done), default=0)

        def start_again(times: int) -> None:
            """A requeued job waits two minutes; may sooner, but not within a second of its end: slurmd refuses."""
            wait_until(lambda: slurm.answer(here, "squeue", "-h", "-j", job, "-o", "%T") == "PENDING", "requeued", 300)
            time.sleep(3)
            slurm.answer(here, "scontrol", "update", f"jobid={job}", "starttime=now")
            wait_until(lambda: f"job {job}, start {times}" in said(), f"start {times}", 300)

        try:
            wait_until(lambda: sealed() >= 5, "a checkpoint", 600)
            slurm.answer(here, "scancel", "--batch", "--signal=TERM", job)  # as --signal=B:TERM@600 does
            start_again(2)
            first = sealed()
            wait_until(lambda: sealed() > first, "another checkpoint", 600)
            slurm.answer(here, "scontrol", "requeue", job)
            start_again(3)
            second = sealed()
            slurm.wait_for_job(here, job)
        finally:
            slurm.answer(here, "scancel", job)
    trained = record(study)
    assert trained["steps"] == 60, said()[-3000:]
    assert trained["processes"] == 2
    assert "time is nearly up: queued again" in said()
    for checkpoint in (first, second):
        assert f"continuing from {study}/lora/checkpoint-{checkpoint}" in said()
    assert [row["step"] for row in trained["history"] if "loss" in row] == sorted(set(range(1, 61)))
