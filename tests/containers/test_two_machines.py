"""One LoRA on two machines, and an arm's answers: two network namespaces joined by a cable, a Slurm cluster of two."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import ROOT, run_script
from containers import slurm
from containers.conftest import debian
from containers.daemons import wait_until
from retries import note_retry

# ten times what an idle machine with two cores takes
pytestmark = [pytest.mark.containers, pytest.mark.slow, pytest.mark.timeout(5400)]
DEMO = ROOT / "recipes" / "configs" / "demo"
TWO_PROCESSES = ("--config_file", str(ROOT / "accelerate_configs" / "multi_cpu.yaml"))


def recipe(study: Path, model: Path, *more: object) -> list[str]:
    """The demo's LoRA on a tiny model, with `accelerate_configs/multi_cpu.yaml` instead of a GPU configuration."""
    words = (*TWO_PROCESSES, "recipes/sft_lora.py", "--config", DEMO / "lora.yaml", "--study_dir", study)
    micro = ("--per_device_train_batch_size", 2, "--gradient_accumulation_steps", 1)
    few = ("--max_train_rows", 40, *micro, "--eval_strategy", "no")
    return [str(word) for word in (*words, "--model_name_or_path", model, *few, *more)]


def record(study: Path) -> dict:
    return json.loads((study / "lora" / "train.json").read_text())


@pytest.fixture
def cable() -> Iterator[tuple[str, str]]:
    """Two network namespaces, 10.77.0.1 and 10.77.0.2, that can reach only each other."""
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


def end(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM, which the entrypoint passes on to the training; SIGKILL where that takes more than a minute."""
    process.terminate()
    try:
        process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def test_two_machines_train_one_lora(
    cable: tuple[str, str], tiny_study: Path, tiny_model: Path, tmp_path: Path
) -> None:
    study = tmp_path / "study"
    subprocess.run(["cp", "-r", tiny_study, study], check=True)
    words = recipe(study, tiny_model, "--max_steps", 10, "--save_strategy", "no")
    processes = []
    for rank, name in enumerate(cable):
        job = {"NNODES": "2", "NODE_RANK": str(rank), "MASTER_ADDR": "10.77.0.1", "GLOO_SOCKET_IFNAME": "wire"}
        command = ["ip", "netns", "exec", name, sys.executable, "docker/cloud/launch.py", *words]
        with (tmp_path / f"{rank}.log").open("w") as log:
            env = os.environ | job | {"OMP_NUM_THREADS": "1"}
            started = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        processes.append(started)
    try:
        for rank, process in enumerate(processes):
            assert process.wait(timeout=1800) == 0, (tmp_path / f"{rank}.log").read_text()[-3000:]
    finally:
        for process in processes:
            end(process)

    show = ["ip", "-n", cable[1], "-s", "-json", "link", "show", "wire"]
    (wire,) = json.loads(subprocess.run(show, capture_output=True, text=True, check=True).stdout)
    crossed = min(wire["stats64"][way]["bytes"] for way in ("rx", "tx"))
    trained = record(study)
    assert trained["processes"] == 2
    assert trained["steps"] == 10
    # float32 gradients of the adapters, once per step and in both directions
    assert crossed > 10 * 4 * trained["trainable_parameters"]
    losses = [row["loss"] for row in trained["history"] if "loss" in row]
    assert losses[-1] < losses[0]
    assert (study / "lora" / "adapter" / "adapter_model.safetensors").exists()


class OverTooSoonError(Exception):
    """The job ended before the test could interrupt it."""


def test_slurm_queues_the_job_again_and_it_continues(tiny_model: Path, tiny_study: Path, tmp_path: Path) -> None:
    """The shipped sbatch file on two nodes: stopped near its end of time, requeued by the operator, then finished.

    Where the training ends before it can be interrupted, it is repeated once with ten times the steps.
    """
    debian(slurmctld="slurm-wlm", munged="munge")
    with slurm.cluster(tmp_path / "slurm") as cluster:
        cluster |= {"MEDSFT_RUN": sys.executable, "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
        try:
            interrupted_twice(cluster, tiny_model, tiny_study, tmp_path / "first", 60)
        except OverTooSoonError as error:
            note_retry("Slurm requeue", f"{error}: again with 600 steps")
            interrupted_twice(cluster, tiny_model, tiny_study, tmp_path / "second", 600)


def interrupted_twice(env: dict[str, str], model: Path, prepared: Path, folder: Path, steps: int) -> None:
    """Train under Slurm for `steps`, interrupted by a time limit and by a requeue; check that nothing was lost."""
    study = folder / "study"
    folder.mkdir()
    subprocess.run(["cp", "-r", prepared, study], check=True)
    saving = ("--max_steps", steps, "--save_steps", 5, "--save_total_limit", 2)
    small = ("--nodes=2", "--cpus-per-task=1", "--time=60", f"--output={folder}/job.log")
    script = str(ROOT / "docker" / "cloud" / "slurm" / "sft.sbatch")
    job = slurm.submit(env, *small, script, *recipe(study, model, *saving), cwd=ROOT)

    def log() -> str:
        """Two machines write into one file: a line or a character of one can be cut by the other's."""
        path = folder / "job.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def newest_checkpoint() -> int:
        done = [path.parent.name.split("-")[1] for path in study.glob("lora/checkpoint-*/manifest.json")]
        return max(map(int, done), default=0)

    def wait_while_training(ready: Callable[[], bool], what: str) -> None:
        """Wait for `ready`. A job that its script queues again counts as ended for a moment, so a minute is allowed."""
        ended: list[float] = []

        def ready_or_over() -> bool:
            if (study / "lora" / "train.json").exists():
                raise OverTooSoonError(f"trained {steps} steps before {what}")
            if ready():
                return True
            ended[:] = [*ended, time.monotonic()] if slurm.has_ended(env, job) else []
            assert not ended or ended[-1] - ended[0] < 60, f"ended before {what}: {log()[-3000:]}"
            return False

        wait_until(ready_or_over, what, 1200)

    def start_again(restarts: int) -> int:
        """Start the requeued job at once; the newest checkpoint, read while nothing trains.

        Slurm holds a requeued job for two minutes. It may start sooner, but slurmd refuses it within a second of its
        end, so ten are waited.
        """

        def running() -> bool:
            return slurm.state(env, job) == "RUNNING" and slurm.restarts(env, job) >= restarts

        wait_while_training(lambda: slurm.state(env, job) == "PENDING" or running(), f"requeue {restarts}")
        newest = newest_checkpoint()
        time.sleep(10)
        slurm.answer(env, "scontrol", "update", f"jobid={job}", "starttime=now")
        wait_until(running, f"restart {restarts}", 900)
        return newest

    try:
        wait_while_training(lambda: newest_checkpoint() >= 5, "the first checkpoint")
        slurm.answer(env, "scancel", "--batch", "--signal=TERM", job)  # as --signal=B:TERM@600 does
        first = start_again(1)
        wait_while_training(lambda: newest_checkpoint() > first, "another checkpoint")
        slurm.answer(env, "scontrol", "requeue", job)
        second = start_again(2)
        wait_until(lambda: slurm.has_ended(env, job), "the end of the job", 2400)
    finally:
        slurm.answer(env, "scancel", job)
    trained = record(study)
    assert trained["steps"] == steps, log()[-3000:]
    assert trained["processes"] == 2
    # every step once: what was done before an interruption was neither lost nor done again
    assert [row["step"] for row in trained["history"] if "loss" in row] == list(range(1, steps + 1))
    assert 5 <= first < second
    continued = [int(step) for step in re.findall(r"continuing from \S*checkpoint-(\d+)", log())]
    assert {first, second} & {*continued}, log()[-3000:]  # the other one's line may be cut
    assert "queued again" in log()


def test_slurm_loses_a_share_of_an_array_and_no_answer(tiny_study: Path, random_model: Path, tmp_path: Path) -> None:
    """The shipped sbatch file: one share is cancelled in the middle and submitted alone, another is queued again."""
    debian(slurmctld="slurm-wlm", munged="munge")
    flags = ["--model_name_or_path", random_model, "--max_new_tokens", 400, "--batch_size", 1, "--max_rows", 24]
    flags += ["--dtype", "float32", "--likelihood_rows", 8]
    for name in ("one", "array"):
        subprocess.run(["cp", "-r", tiny_study, tmp_path / name], check=True)
    done = run_script("generate.py", "--study_dir", tmp_path / "one", *flags)
    assert done.returncode == 0, done.stderr[-2000:]
    arm = tmp_path / "array" / "baseline"
    script = str(ROOT / "docker" / "cloud" / "slurm" / "evaluate.sbatch")
    small = ("--cpus-per-task=1", "--gpus-per-node=1", "--time=60", f"--output={tmp_path}/job-%a.log")
    words = [str(word) for word in (script, "--arms", "baseline", "--study_dir", tmp_path / "array", *flags)]

    def log() -> str:
        return "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(tmp_path.glob("job-*.log")))

    def answered(share: int) -> int:
        parts = arm.glob(f"generations.*{'.share_1' if share else ''}.partial.jsonl")
        return sum(len(part.read_text().splitlines()) for part in parts if (".share_" in part.name) == bool(share))

    with slurm.cluster(tmp_path / "slurm") as cluster:
        env = cluster | {"MEDSFT_RUN": sys.executable, "OMP_NUM_THREADS": "1"}
        job = slurm.submit(env, "--array=0-1", *small, *words, cwd=ROOT)
        try:
            wait_until(lambda: answered(0) > 0 and answered(1) > 0, "answers of both shares", 900)
            slurm.answer(env, "scancel", f"{job}_1")  # the machine is lost for good
            wait_until(lambda: slurm.has_ended(env, f"{job}_1"), "the end of the lost share", 300)
            wait_until(lambda: slurm.has_ended(env, f"{job}_0"), "the end of the other share", 1200)
            assert slurm.state(env, f"{job}_0") == "COMPLETED", log()  # the other was not stopped with it
            assert not (arm / "generations.jsonl").exists(), log()
            kept = answered(1)
            assert 0 < kept < 12, log()
            again = slurm.submit(env | {"SHARDS": "2"}, "--array=1", *small, *words, cwd=ROOT)
            wait_until(lambda: answered(1) > kept or (arm / "generations.jsonl").exists(), "more answers", 900)
            slurm.answer(env, "scancel", "--batch", "--signal=TERM", f"{again}_1")  # as --signal=B:TERM@60 does
            wait_until(
                lambda: slurm.restarts(env, f"{again}_1") > 0 or slurm.has_ended(env, f"{again}_1"), "requeue", 300
            )
            time.sleep(10)  # slurmd refuses a job within a second of its end
            slurm.answer(env, "scontrol", "update", f"jobid={again}_1", "starttime=now")
            wait_until(lambda: (arm / "generation.json").exists(), "all answers", 1200)
        finally:
            slurm.answer(env, "scancel", job)
    for name in ("generations.jsonl", "likelihood.jsonl"):
        assert (arm / name).read_text() == (tmp_path / "one" / "baseline" / name).read_text(), log()
    assert json.loads((arm / "generation.json").read_text())["shares"] == 2
