"""The docker command against one daemon."""

import os
import shutil
import subprocess
from pathlib import Path

from conftest import ROOT

# The restrictions that docs and job files promise.
LOCKED_DOWN = ("--network=none", "--read-only", "--tmpfs=/tmp", "--cap-drop=all", "--security-opt=no-new-privileges")


class Docker:
    """One daemon, by its socket."""

    def __init__(self, socket: Path) -> None:
        # Debian's command has the BuildKit client; another one may be earlier in PATH.
        self.binary = next((p for p in ("/usr/bin/docker",) if Path(p).exists()), shutil.which("docker") or "docker")
        self.env = os.environ | {"DOCKER_HOST": f"unix://{socket}", "DOCKER_BUILDKIT": "1"}

    def call(self, *arguments: str, check: bool = True, timeout: float = 1500) -> subprocess.CompletedProcess[str]:
        """`docker ARGUMENTS`; an unexpected exit status fails the test with the output of docker and the container."""
        command = [self.binary, *arguments]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        try:
            done = subprocess.run(command, env=self.env, text=True, timeout=timeout, **quiet)  # type: ignore[call-overload]
        except subprocess.TimeoutExpired as late:
            done = subprocess.CompletedProcess(command, 124, str(late.output))
        assert not check or done.returncode == 0, f"docker {arguments[0]}: {done.stdout[-4000:]}"
        return done

    def build(self, target: str, tag: str, *options: str) -> None:
        file = str(ROOT / "docker" / "Dockerfile")
        self.call("build", f"--file={file}", f"--target={target}", f"--tag={tag}", *options, str(ROOT))
