#!/usr/bin/env python3
"""Let this machine answer its share of the test rows, arm by arm; run it on each machine of a job, at any time.

    docker/cloud/answer.py --config recipes/configs/mistral_7b/generate.yaml              # every arm of the study
    docker/cloud/answer.py --arms "baseline lora" --config recipes/configs/mistral_7b/generate.yaml
    docker/cloud/answer.py --arms lora --serve "vllm serve runs/mistral_7b/{arm}/export/vllm --port {port} \\
        --served-model-name {arm} --tensor-parallel-size 8" --config recipes/configs/mistral_7b/generate.yaml
    docker/cloud/answer.py --print --config recipes/configs/mistral_7b/generate.yaml      # only print the commands

Everything but --arms, --serve and --print is an option of generate.py. The machines need one file system, and nothing
else of each other: the number of this one and how many there are come from an array of Slurm, an Indexed Job of
Kubernetes, SkyPilot or dstack, and become --shard and --shards. SHARDS says how many where the scheduler does not, or
where a lost share is submitted alone: SHARDS=8 sbatch --array=3 docker/cloud/slurm/evaluate.sbatch ...
With --serve a server of this machine answers: it is started for each arm with a free {port}, asked, and ended.
"""

import argparse
import os
import shlex
import socket
import subprocess
import sys
import time
import urllib.error
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import launch  # beside this file; it makes medsft importable, so it comes first

from medsft.cli import run
from medsft.config import command_line, peek
from medsft.errors import UserError
from medsft.inference import shards
from medsft.inference.http_json import request
from medsft.study.names import BASELINE, existing_study, trained_arms

GENERATE, NF4 = "recipes/generate.py", "baseline_nf4"


def share(env: Mapping[str, str]) -> tuple[int, int]:
    """(number from 0, how many) of this machine's share. Raises UserError where the two do not go together."""
    if "SLURM_ARRAY_TASK_ID" in env:
        number, count = int(env["SLURM_ARRAY_TASK_ID"]), int(env["SLURM_ARRAY_TASK_MAX"]) + 1
        if int(env.get("SLURM_ARRAY_TASK_MIN") or 0) > 0 and "SHARDS" not in env:
            raise UserError("sbatch --array begins above 0, so nobody has share 0; use --array=0-N, or give SHARDS=N")
    elif "SKYPILOT_NODE_RANK" in env:
        number, count = int(env["SKYPILOT_NODE_RANK"]), len(env["SKYPILOT_NODE_IPS"].split())
    elif "DSTACK_NODE_RANK" in env:
        number, count = int(env["DSTACK_NODE_RANK"]), int(env["DSTACK_NODES_NUM"])
    else:
        number = int(env.get("NODE_RANK") or env.get("JOB_COMPLETION_INDEX") or 0)
        count = int(env.get("NNODES") or number + 1)
    count = int(env.get("SHARDS") or count)
    shards.check(number, count)
    return number, count


def command(gpus: int, port: int, arm: str, mine: tuple[int, int], words: list[str]) -> list[str]:
    """The line by which this machine's GPUs answer its share of an arm's rows, a process each."""
    words = [*words, *(["--quantization", "nf4"] if arm == NF4 else []), "--arm", arm]
    recipe = [str(launch.ROOT / GENERATE), *words, "--shard", str(mine[0]), "--shards", str(mine[1])]
    if gpus <= 1:
        return [sys.executable, *recipe]
    return launch.command(launch.Job(1, 0, gpus, "", port), gpus, recipe)


def every_arm(study: Path, prompted: bool) -> list[str]:
    """The arms that `make evaluate` asks: untrained, prompted where the recipe has instructions, and trained."""
    untrained = [BASELINE, *(["baseline_prompted", "baseline_fewshot"] if prompted else [])]
    untrained += [NF4] if (study / "qlora" / "adapter").is_dir() else []
    return untrained + trained_arms(study)


@contextmanager
def server(line: list[str]) -> Iterator[str]:
    """The address of a server that this line starts; it is ended with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    process = subprocess.Popen([word.replace("{port}", port) for word in line], cwd=launch.ROOT)
    try:
        address = f"http://127.0.0.1:{port}/v1"
        while not _answers(f"{address}/models"):
            if process.poll() is not None:
                raise UserError(f"--serve: it ended with status {process.returncode} before it answered: {line[0]}")
            time.sleep(1)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(address: str) -> bool:
    try:
        request(address)
    except urllib.error.HTTPError as error:
        if error.code < 500:  # it will never answer otherwise
            raise UserError(f"--serve: {address} refuses with status {error.code}; is its key needed?") from error
        return False
    except (OSError, ValueError):
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--arms", default="")
    parser.add_argument("--serve", default="")
    parser.add_argument("--print", action="store_true")
    own, words = parser.parse_known_args()
    mine = share(os.environ)
    os.chdir(launch.ROOT)
    argv = command_line(given=words)
    study = existing_study(str(peek("study_dir", "runs/demo", argv)))
    arms = own.arms.replace(",", " ").split() or every_arm(study, bool(peek("system_prompt", "", argv)))
    if own.serve and "{port}" not in own.serve:
        raise UserError("--serve: write {port} where the server is told its port, and {arm} for the arm's name")
    here = launch.job({**os.environ, "MASTER_ADDR": "127.0.0.1"})
    gpus = launch.prepare(here)
    print(f"share {mine[0] + 1} of {mine[1]}, {gpus} GPUs, arms {', '.join(arms)}", flush=True)
    for arm in arms:
        line = command(0 if own.serve else gpus, here.port, arm, mine, words)
        served = [word.replace("{arm}", arm) for word in shlex.split(own.serve)]
        print(shlex.join(served) or shlex.join(line), flush=True)
        if own.print:
            continue
        if served:
            with server(served) as address:
                status = subprocess.run([*line, "--endpoint", address]).returncode
        else:
            status = subprocess.run(line).returncode
        if status:
            print(f"arm {arm} stopped with status {status}; what is answered is kept", file=sys.stderr, flush=True)
            sys.exit(status if status > 0 else 128 - status)


if __name__ == "__main__":
    run(main, __doc__)
