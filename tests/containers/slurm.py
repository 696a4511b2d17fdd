"""A Slurm cluster of two nodes on one machine: real daemons on loopback, with a device file in place of each GPU."""

import os
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from containers.daemons import daemon, wait_until

CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=2
GresTypes=gpu
JobRequeue=1
ReturnToService=2
SlurmctldPort={ports[0]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdLogFile={folder}/slurmd.%n.log
SlurmdSpoolDir={folder}/spool.%n
StateSaveLocation={folder}/state
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 Gres=gpu:1
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 Gres=gpu:1
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""
GRES = "NodeName=n1 Name=gpu File=/dev/tty0\nNodeName=n2 Name=gpu File=/dev/tty1\n"


@contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Two idle nodes, and the environment in which sbatch, squeue and scontrol find them."""
    host = socket.gethostname().split(".")[0]
    (folder / "state").mkdir(parents=True)
    (folder / "slurm.conf").write_text(CONFIG.format(host=host, folder=folder, ports=_free_ports(3)))
    (folder / "gres.conf").write_text(GRES)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    folder.chmod(0o755)  # munged refuses a socket in a folder that others cannot read
    env = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": f"{os.environ['PATH']}:/usr/sbin"}
    paths = [f"--{name}-file={folder}/munge.{name}" for name in ("pid", "log", "seed", "key")]
    with ExitStack() as daemons:
        start = lambda *command: daemons.enter_context(daemon(command, folder, env))  # noqa: E731
        start("munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *paths)
        wait_until((folder / "munge.socket").exists, "munged")
        start("slurmctld", "-D")
        start("slurmd", "-D", "-N", "n1")
        start("slurmd", "-D", "-N", "n2")
        wait_until(lambda: answer(env, "sinfo", "-h", "-t", "idle", "-o", "%D") == "2", "two idle nodes")
        yield env


def answer(env: dict[str, str], *command: str) -> str:
    return subprocess.run(command, env=env, capture_output=True, text=True).stdout.strip()


def submit(env: dict[str, str], *arguments: str, cwd: Path) -> str:
    """Submit with sbatch; the job's number."""
    command = ["sbatch", "--parsable", *arguments]
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def state(env: dict[str, str], job: str) -> str:
    """PENDING, RUNNING, COMPLETING, COMPLETED, ...; '' where slurmctld did not answer in time."""
    found = re.search(r"JobState=(\w+)", answer(env, "scontrol", "show", "job", job))
    return found[1] if found else ""


def has_ended(env: dict[str, str], job: str) -> bool:
    return state(env, job) in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "DEADLINE")


def restarts(env: dict[str, str], job: str) -> int:
    """How often the job was queued again."""
    found = re.search(r"Restarts=(\d+)", answer(env, "scontrol", "show", "job", job))
    return int(found[1]) if found else 0


def _free_ports(count: int) -> list[int]:
    """Ports nobody listens on, so that a second cluster on this machine is not in the way."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
