"""The launch script against the variables that each scheduler sets, and how its line is read by accelerate."""

import importlib.util
import os
import pty
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from conftest import ROOT

SCRIPT = ROOT / "docker" / "cloud" / "launch.py"
RECORDED = ROOT / "tests" / "clusters"
SECOND_OF_TWO = {  # address and port of the first machine
    "slurm": ("n1", 20_002),
    "skypilot": ("10.0.0.11", 29_500),
    "dstack": ("10.128.0.47", 29_500),
    "kubeflow": ("medsft-node-0-0.medsft", 29_400),
    "kubernetes": ("medsft-multinode-0.medsft-multinode", 29_500),
}


def environment(name: str) -> dict[str, str]:
    words = shlex.split((RECORDED / f"{name}.env").read_text(), comments=True)
    return dict(word.split("=", 1) for word in words)


@pytest.fixture(scope="module")
def launch() -> ModuleType:
    spec = importlib.util.spec_from_file_location("launch", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def printed(env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    clean = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    command = [sys.executable, SCRIPT, "--print", *words]
    return subprocess.run(command, env=clean | env, capture_output=True, text=True)


def test_every_recorded_scheduler_is_tested() -> None:
    assert {path.stem for path in RECORDED.glob("*.env")} == set(SECOND_OF_TWO)


@pytest.mark.parametrize("name", SECOND_OF_TWO)
def test_second_of_two_machines(launch: ModuleType, name: str) -> None:
    address, port = SECOND_OF_TWO[name]
    found = launch.job(environment(name))
    assert found[:2] == (2, 1)
    assert found[3:] == (address, port)
    assert found.gpus == {"slurm": 1, "kubernetes": None}.get(name, 8)


@pytest.mark.parametrize("name", SECOND_OF_TWO)
def test_accelerate_reads_the_line(launch: ModuleType, name: str) -> None:
    """Through accelerate's own parser: static rendezvous, this machine's number, all processes, no ssh."""
    from accelerate.commands.launch import launch_command_parser

    found = launch.job(environment(name))
    line = launch.command(found, 8, ["--mixed_precision", "bf16", "recipes/sft_lora.py", "--config", "x.yaml"])
    args = launch_command_parser().parse_args(line[2:])
    assert Path(args.config_file).name == "multi_gpu.yaml"
    assert (args.num_machines, args.machine_rank, args.num_processes) == (2, 1, 16)
    assert (args.main_process_ip, args.main_process_port) == SECOND_OF_TWO[name]
    assert args.rdzv_backend == "static"
    assert args.deepspeed_multinode_launcher == "standard"
    assert args.training_script == "recipes/sft_lora.py"
    assert args.training_script_args == ["--config", "x.yaml"]


@pytest.mark.parametrize(
    ("gpus", "config", "processes"),
    [(0, "cpu.yaml", 1), (1, "single_gpu.yaml", 1), (8, "multi_gpu.yaml", 8)],
)
def test_one_machine_without_a_scheduler(launch: ModuleType, gpus: int, config: str, processes: int) -> None:
    line = launch.command(launch.job({}), gpus, ["recipes/sft_lora.py"])
    assert Path(line[line.index("--config_file") + 1]).name == config
    assert Path(line[line.index("--config_file") + 1]).is_file()
    assert line[line.index("--num_processes") + 1] == str(processes)
    assert "--main_process_ip" not in line


def test_a_config_of_the_users_is_kept() -> None:
    done = printed(environment("skypilot"), "--config_file", "accelerate_configs/zero3.yaml", "recipes/sft_full.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("--config_file") == 1
    assert "machine 2 of 2, 8 GPUs" in done.stdout


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("n1", "n1"),
        ("n[1-2]", "n1"),
        ("gpu[003,007-010],cpu1", "gpu003"),
        ("a100-[01-16]-ib", "a10001-ib".replace("a100", "a100-")),
        ("login.cluster.org,n2", "login.cluster.org"),
    ],
)
def test_first_host_of_slurms_short_form(launch: ModuleType, nodes: str, first: str) -> None:
    found = launch.job(environment("slurm") | {"SLURM_STEP_NODELIST": nodes})
    assert found.address == first


def test_what_the_user_says_of_the_first_machine_goes_first(launch: ModuleType) -> None:
    for name in SECOND_OF_TWO:
        found = launch.job(environment(name) | {"MASTER_ADDR": "10.9.8.7", "MASTER_PORT": "1234"})
        assert found[3:] == ("10.9.8.7", 1234)


@pytest.mark.parametrize(
    ("env", "words", "says"),
    [
        ({"NNODES": "2", "NODE_RANK": "0"}, ["recipes/sft_lora.py"], "MASTER_ADDR"),
        ({**environment("slurm"), "SLURM_LOCALID": "1"}, ["recipes/sft_lora.py"], "--ntasks-per-node=1"),
        ({}, [], "name the recipe"),
    ],
)
def test_what_is_missing_is_said_in_one_line(env: dict[str, str], words: list[str], says: str) -> None:
    done = printed(env, *words)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


LAUNCHER = """
import subprocess, sys
subprocess.Popen([sys.executable, "-c", sys.argv[1]]).wait()  # dies of SIGTERM itself, as accelerate's launcher does
"""
TRAINING = """
import pathlib, signal, sys, time
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
pathlib.Path("started").touch()
while not stopped: time.sleep(0.05)
time.sleep(1)
pathlib.Path("checkpoint").touch()
"""


@pytest.mark.slow
@pytest.mark.parametrize("terminal", [False, True])
def test_the_entrypoint_waits_for_a_training_whose_launcher_is_gone(tmp_path: Path, terminal: bool) -> None:
    """With a terminal too, which `docker compose run` gives."""
    command = [ROOT / "docker" / "entrypoint", sys.executable, "-c", LAUNCHER, TRAINING]
    own, its = pty.openpty()
    process = subprocess.Popen(command, cwd=tmp_path, stdin=its if terminal else subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not (tmp_path / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 128 + signal.SIGTERM
    assert (tmp_path / "checkpoint").exists()
    os.close(own)
    os.close(its)


@pytest.mark.parametrize("status", [0, 3, 127])
def test_the_entrypoint_hands_on_the_exit_status(tmp_path: Path, status: int) -> None:
    command = [ROOT / "docker" / "entrypoint", "sh", "-c", f"exit {status}"]
    assert subprocess.run(command, cwd=tmp_path, stdin=subprocess.DEVNULL).returncode == status
