#!/usr/bin/env python3
"""Start a recipe on every machine of a job: turns the scheduler's variables into one `accelerate launch`.

    srun --ntasks-per-node=1 docker/cloud/launch.py recipes/sft_lora.py --config recipes/configs/mistral_7b/lora.yaml
    docker/cloud/launch.py --config_file accelerate_configs/zero3.yaml recipes/sft_full.py \\
        --config recipes/configs/mistral_7b/full_zero3.yaml        # accelerate's options first
    docker/cloud/launch.py --print recipes/sft_lora.py             # only print the command

Run it once on each machine, on a file system they share. It knows Slurm, SkyPilot, dstack and Kubeflow Trainer;
elsewhere (a Kubernetes Indexed Job, machines by hand) set NNODES, NODE_RANK or JOB_COMPLETION_INDEX, and MASTER_ADDR.
The rendezvous is static: every machine gets the first one's address. The dynamic rendezvous (c10d) needs that machine
to recognise itself by its host name, and times out where that name resolves to 127.0.0.1.
"""

import os
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "recipes"))

from medsft.cli import run  # noqa: E402
from medsft.errors import UserError  # noqa: E402
from medsft.hardware.specs import machine  # noqa: E402


class Job(NamedTuple):
    """This machine's rank in its job. `gpus` is per machine, None where the scheduler does not say."""

    machines: int
    rank: int
    gpus: int | None
    address: str
    port: int


def job(env: Mapping[str, str]) -> Job:
    """Read a job from its scheduler's variables. Raises UserError where they are incomplete."""
    if "SLURM_NODEID" in env:
        if env.get("SLURM_LOCALID", "0") != "0":
            raise UserError("start it once a machine: srun --ntasks-per-node=1 docker/cloud/launch.py ...")
        # A port derived from the job number, so that two jobs on one machine do not collide.
        port = 20_000 + int(env["SLURM_JOB_ID"]) % 20_000
        first = _first_host(env.get("SLURM_STEP_NODELIST") or env["SLURM_JOB_NODELIST"])
        machines = env.get("SLURM_STEP_NUM_NODES") or env["SLURM_NNODES"]
        found = Job(int(machines), int(env["SLURM_NODEID"]), _count(env, "SLURM_GPUS_ON_NODE", "0"), first, port)
    elif "SKYPILOT_NODE_RANK" in env:
        addresses = env["SKYPILOT_NODE_IPS"].split()
        gpus = _count(env, "SKYPILOT_NUM_GPUS_PER_NODE")
        found = Job(len(addresses), int(env["SKYPILOT_NODE_RANK"]), gpus, addresses[0], 29_500)
    elif "DSTACK_NODE_RANK" in env:
        gpus, first = _count(env, "DSTACK_GPUS_PER_NODE"), env.get("DSTACK_MASTER_NODE_IP", "")
        found = Job(int(env["DSTACK_NODES_NUM"]), int(env["DSTACK_NODE_RANK"]), gpus, first, 29_500)
    elif "PET_NNODES" in env:  # Kubeflow Trainer sets torchrun's variables
        processes = _count(env, "PET_NPROC_PER_NODE")  # None where it says auto, gpu or cpu
        port = int(env.get("PET_MASTER_PORT", "29400"))
        found = Job(int(env["PET_NNODES"]), int(env["PET_NODE_RANK"]), processes, env.get("PET_MASTER_ADDR", ""), port)
    else:
        rank = env.get("NODE_RANK") or env.get("JOB_COMPLETION_INDEX") or "0"
        found = Job(int(env.get("NNODES", "1")), int(rank), None, "", 29_500)
    # The user's address and port take precedence over the scheduler's.
    found = found._replace(address=env.get("MASTER_ADDR") or found.address)
    found = found._replace(port=int(env.get("MASTER_PORT") or found.port))
    if found.machines > 1 and not found.address:
        raise UserError(f"{found.machines} machines and no MASTER_ADDR: set it to the first machine's name or address")
    return found


def command(here: Job, gpus: int, words: list[str]) -> list[str]:
    """The `accelerate launch` command of one machine with `gpus` GPUs; `words` are its options and the recipe's."""
    processes = here.machines * max(1, gpus)
    line = [str(Path(sys.executable).parent / "accelerate"), "launch"]
    if not any(word.split("=")[0] == "--config_file" for word in words):
        name = ("multi_gpu" if gpus else "multi_cpu") if processes > 1 else ("single_gpu" if gpus else "cpu")
        line += ["--config_file", str(ROOT / "accelerate_configs" / f"{name}.yaml")]
    line += ["--num_machines", str(here.machines), "--num_processes", str(processes)]
    if processes > 1:
        line += ["--main_process_port", str(here.port)]
    if here.machines > 1:
        line += ["--machine_rank", str(here.rank), "--main_process_ip", here.address, "--rdzv_backend", "static"]
        line += [
            "--deepspeed_multinode_launcher",
            "standard",
        ]  # DeepSpeed's own would connect by ssh
    return [*line, *words]


def prepare(here: Job) -> int:
    """How many GPUs to use on this machine; gives each process its share of the threads."""
    this_machine = machine(".")
    gpus = this_machine.gpus if here.gpus is None else here.gpus
    # By default accelerate gives each process one thread, which makes DeepSpeedCPUAdam many times slower.
    threads = int(os.environ.get("SLURM_CPUS_PER_TASK") or this_machine.cpus) // max(1, gpus)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, threads)))
    for name in [name for name in os.environ if name.startswith("PET_")]:
        del os.environ[name]  # torchrun would read them as its own options
    return gpus


def main() -> None:
    words = [word for word in sys.argv[1:] if word != "--print"]
    if not any(word.endswith(".py") for word in words):
        raise UserError("name the recipe to start, such as recipes/sft_lora.py")
    here = job(os.environ)
    gpus = prepare(here)
    line = command(here, gpus, words)
    print(f"machine {here.rank + 1} of {here.machines}, {gpus} GPUs: {shlex.join(line)}", flush=True)
    if "--print" not in sys.argv:
        os.chdir(ROOT)
        os.execv(ROOT / "docker" / "entrypoint", [str(ROOT / "docker" / "entrypoint"), *line])


def _first_host(nodes: str) -> str:
    """'gpu[003,007-010]-ib,login' -> 'gpu003-ib'."""
    match = re.match(r"([^,\[]+)(?:\[(\w+)[^\]]*\]([^,]*))?", nodes)
    return "".join(part or "" for part in match.groups()) if match else nodes


def _count(env: Mapping[str, str], name: str, default: str = "") -> int | None:
    value = env.get(name, default)
    return int(value) if value.isdigit() else None


if __name__ == "__main__":
    run(main, __doc__)
