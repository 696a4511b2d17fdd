"""docker/cloud/answer.py: the scheduler's variables become a share, and shares of every arm become its answers."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT, run_here, write_adapter_arm
from medsft.errors import UserError
from medsft.files import read_json, read_jsonl
from stand_in_server import said

SCRIPT = ROOT / "docker" / "cloud" / "answer.py"
SLURM = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "4", "SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_MAX": "7"}
SLURM |= {"SLURM_NODEID": "0", "SLURM_LOCALID": "0", "SLURM_NNODES": "1", "SLURM_JOB_NODELIST": "n1"}
SLURM |= {"SLURM_GPUS_ON_NODE": "4"}
SKYPILOT = {"SKYPILOT_NODE_RANK": "3", "SKYPILOT_NODE_IPS": "\n".join(f"10.0.0.{n}" for n in range(8))}


def call(env: dict[str, str], *words: object) -> subprocess.CompletedProcess[str]:
    clean = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "OMP_NUM_THREADS": "1"}
    clean |= {name: os.environ[name] for name in ("MEDSFT_CACHE", "PYTHONPATH") if name in os.environ}
    command = [sys.executable, str(SCRIPT), *map(str, words)]
    return subprocess.run(command, cwd=ROOT, env=clean | {"HF_HUB_OFFLINE": "1"} | env, capture_output=True, text=True)


@pytest.fixture(scope="module")
def study(tiny_study: Path, random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with an arm, as on the file system that the machines share."""
    folder = tmp_path_factory.mktemp("shared") / "study"
    shutil.copytree(tiny_study / "data", folder / "data")
    write_adapter_arm(folder / "lora", random_model, seed=1)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env", "share"),
    [
        (SLURM, (3, 8)),
        (SLURM | {"SLURM_ARRAY_TASK_MAX": "3", "SHARDS": "8"}, (3, 8)),  # one lost share, submitted alone
        (SKYPILOT | {"SKYPILOT_NUM_GPUS_PER_NODE": "4"}, (3, 8)),
        ({"DSTACK_NODE_RANK": "3", "DSTACK_NODES_NUM": "8", "DSTACK_GPUS_PER_NODE": "4"}, (3, 8)),
        ({"JOB_COMPLETION_INDEX": "3", "SHARDS": "8"}, (3, 8)),
        ({}, (0, 1)),
    ],
)
def test_every_scheduler_says_which_share_is_this_machines(
    env: dict[str, str], share: tuple[int, int], study: Path
) -> None:
    done = call(env, "--print", "--study_dir", study, "--max_rows", 4)
    assert done.returncode == 0, done.stderr
    head, *lines = done.stdout.splitlines()
    assert head.startswith(f"share {share[0] + 1} of {share[1]}, ") and head.endswith("arms baseline, lora")
    for line, arm in zip(lines, ("baseline", "lora"), strict=True):
        assert line.endswith(f"--arm {arm} --shard {share[0]} --shards {share[1]}")
        assert ("--num_machines 1 --num_processes 4" in line) == ("4 GPUs" in head)  # this machine's, and no other's
        assert "--machine_rank" not in line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env", "words", "says"),
    [
        ({"JOB_COMPLETION_INDEX": "8", "SHARDS": "8"}, (), "shard 8: give a whole number from 0 to 7"),
        (SLURM | {"SLURM_ARRAY_TASK_MIN": "1"}, (), "nobody has share 0; use --array=0-N"),
        ({}, ("--serve", "vllm serve x"), "write {port} where the server is told its port"),
        ({}, ("--serve", "false {port}"), "ended with status 1 before it answered"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(env: dict[str, str], words: tuple[str, ...], says: str, study: Path) -> None:
    done = call(env, "--study_dir", study, *words)
    assert done.returncode == 2
    assert says in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_server_that_wants_a_key_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import answer

    script = (
        "import http.server, sys\n"
        "class Guard(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self): self.send_error(401)\n"
        "    def log_message(self, *_): pass\n"
        "http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), Guard).serve_forever()\n"
    )
    refused = pytest.raises(UserError, match="refuses with status 401")
    with refused, answer.server([sys.executable, "-c", script, "{port}"]):
        pass


def test_all_arms_that_make_evaluate_asks_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import answer

    (tmp_path / "qlora" / "adapter").mkdir(parents=True)
    (tmp_path / "qlora" / "train.json").touch()
    assert answer.every_arm(tmp_path, False) == ["baseline", "baseline_nf4", "qlora"]
    assert answer.every_arm(tmp_path, True)[1:3] == ["baseline_prompted", "baseline_fewshot"]
    line = answer.command(1, 1, "baseline_nf4", (0, 2), [])
    assert line[2:] == ["--quantization", "nf4", "--arm", "baseline_nf4", "--shard", "0", "--shards", "2"]
    assert "--quantization" not in answer.command(1, 1, "qlora", (0, 2), [])


@pytest.mark.slow
def test_an_array_of_two_loses_nothing_when_one_machine_is_lost(
    study: Path, random_model: Path, tmp_path: Path
) -> None:
    """As Slurm runs it: the second share is killed in the middle, the first ends, the second is submitted again."""
    flags = ["--model_name_or_path", random_model, "--max_new_tokens", 40, "--batch_size", 2, "--max_rows", 12]
    flags += ["--dtype", "float32", "--likelihood_rows", 4]
    whole = tmp_path / "whole"
    shutil.copytree(study, whole)
    done = run_here("generate.py", "--study_dir", whole, "--arm", "lora", *flags)
    assert done.returncode == 0, done.stderr[-2000:]
    job = tmp_path / "job"
    shutil.copytree(study, job)
    words = ["--arms", "lora", "--study_dir", job, *flags]
    second = [sys.executable, str(SCRIPT), *map(str, words)]
    env = dict(os.environ) | {"JOB_COMPLETION_INDEX": "1", "SHARDS": "2"}
    lost = subprocess.Popen(second, cwd=ROOT, env=env, start_new_session=True, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 300
    while time.monotonic() < until and not any(p.stat().st_size for p in job.glob("*/generations.*.partial.jsonl")):
        time.sleep(0.01)
    os.killpg(lost.pid, signal.SIGKILL)
    lost.wait()
    assert [*job.glob("lora/generations.*.share_1.partial.jsonl")] and not [*job.glob("*/generation.json")]
    for index in ("0", "1"):
        done = call({"JOB_COMPLETION_INDEX": index, "SHARDS": "2"}, *words)
        assert done.returncode == 0, done.stderr[-2000:]
    for name in ("generations.jsonl", "likelihood.jsonl"):
        assert (job / "lora" / name).read_text() == (whole / "lora" / name).read_text()
    record = read_json(job / "lora" / "generation.json")
    assert record["shares"] == 2
    assert record["fingerprint"] == read_json(whole / "lora" / "generation.json")["fingerprint"]


@pytest.mark.slow
def test_each_machine_asks_a_server_of_its_own(study: Path, random_model: Path, tmp_path: Path) -> None:
    job = tmp_path / "job"
    shutil.copytree(study, job)
    serve = f"{sys.executable} {ROOT / 'tests' / 'stand_in_server.py'} {{port}} {{arm}}"
    for index in ("1", "0"):
        words = ("--arms", "lora", "--serve", serve, "--study_dir", job, "--max_rows", 6)
        path = {"PYTHONPATH": str(ROOT / "recipes")}
        done = call({"JOB_COMPLETION_INDEX": index, "SHARDS": "2"} | path, *words)
        assert done.returncode == 0, done.stderr[-2000:]
    rows: Any = read_jsonl(job / "lora" / "generations.jsonl")
    assert [row["prediction"] for row in rows] == [said("lora", row["messages"][-1]["content"]) for row in rows]
    assert len(rows) == 6 and json.loads((job / "lora" / "generation.json").read_text())["engine"] == "messages"
