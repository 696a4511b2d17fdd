"""A Slurm of two machines on one: real daemons on the loopback, with a device file in place of a GPU each."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from containers.daemons import daemon, wait_until

DAEMONS = ("munged", "slurmctld", "slurmd")

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
SlurmctldPort=26817
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdLogFile={folder}/slurmd.%n.log
SlurmdSpoolDir={folder}/spool.%n
StateSaveLocation={folder}/state
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port=26818 CPUs=1 Gres=gpu:1
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port=26819 CPUs=1 Gres=gpu:1
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""
GRES = "NodeName=n1 Name=gpu File=/dev/tty0\nNodeName=n2 Name=gpu File=/dev/tty1\n"


def missing() -> list[str]:
    found = (name for name in DAEMONS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None)
    return list(found)


@contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Two machines that accept jobs, and the environment in which sbatch, squeue and scontrol find them."""
    host = socket.gethostname().split(".")[0]
    (folder / "state").mkdir(parents=True)
    (folder / "slurm.conf").write_text(CONFIG.format(host=host, folder=folder))
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
        wait_until(lambda: answer(env, "sinfo", "-h", "-t", "idle", "-o", "%D") == "2", "two idle machines")
        yield env


def answer(env: dict[str, str], *command: str) -> str:
    return subprocess.run(command, env=env, capture_output=True, text=True).stdout.strip()


def submit(env: dict[str, str], *arguments: str, cwd: Path) -> str:
    """The number of a job that `sbatch` took."""
    command = ["sbatch", "--parsable", *arguments]
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def wait_for_job(env: dict[str, str], job: str, seconds: float = 900) -> None:
    deadline = time.monotonic() + seconds
    while answer(env, "squeue", "-h", "-j", job) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not answer(env, "squeue", "-h", "-j", job), f"job {job} did not end in {seconds:.0f} s"
