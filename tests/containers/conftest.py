"""What the container tests share. They need root and Debian packages; without these they are skipped with a reason."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import RECIPES, ROOT
from containers.daemons import daemon, wait_until
from containers.engine import Docker
from retries import summary

BASE = "python:3.11-slim-bookworm"
# Another apt-get of the machine may hold the lock for a while.
APT_GET = ("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=600")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the end of a run with container tests how many attempts were repeated."""
    reports = [report for some in terminalreporter.stats.values() for report in some]
    if any(getattr(report, "when", "") == "call" and "containers/" in report.nodeid for report in reports):
        terminalreporter.write_line(f"container tests: {summary()}")


def debian(**packages: str) -> None:
    """Install the packages of these programs where they are missing. Skips where that is impossible."""
    missing = [package for program, package in packages.items() if shutil.which(program, path=SYSTEM) is None]
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED: containers, namespaces and Slurm's daemons need root (sudo make test-containers)")
    if not missing:
        return
    if shutil.which("apt-get") is None:
        pytest.skip(f"NOT TESTED: {', '.join(missing)} not installed, and there is no apt-get to install them")
    for command in (["update"], ["install", "-y", "--no-install-recommends", *missing]):
        done = subprocess.run([*APT_GET, *command], env=QUIET, capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"NOT TESTED: apt-get {command[0]} failed: {done.stderr.strip()[-200:]}")


SYSTEM = f"{os.environ['PATH']}:/usr/sbin:/sbin"
QUIET = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}


@pytest.fixture(scope="session")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """A Docker daemon for the tests alone: its images are deleted afterwards, the host's networks stay as they are."""
    debian(dockerd="docker.io", mmdebstrap="mmdebstrap")
    folder = tmp_path_factory.mktemp("docker")
    socket = folder / "socket"
    command = [shutil.which("dockerd", path=SYSTEM) or "", f"--host=unix://{socket}"]
    command += [f"--{name}={folder / name}" for name in ("data-root", "exec-root", "pidfile")]
    command += ["--bridge=none"]
    command += [f"--{name}=false" for name in ("iptables", "ip6tables", "ip-forward", "ip-masq")]
    engine = Docker(socket)
    with daemon(command, folder, dict(os.environ) | {"PATH": SYSTEM}):
        wait_until(lambda: engine.call("version", check=False).returncode == 0, "dockerd")
        yield engine
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def download(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Iterator["subprocess.Popen[str]"]:
    """Download every package of the cpu image with docker/wheelhouse.sh, while the base image is made."""
    folder = tmp_path_factory.mktemp("wheelhouse") / "wheels"
    env = os.environ | {"PYTHON": sys.executable}
    command = ["docker/wheelhouse.sh", "cpu", str(folder)]
    # its own session, so that pip ends with the script when a test run is interrupted
    process = subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    shutil.rmtree(folder.parent, ignore_errors=True)


@pytest.fixture(scope="session")
def base(docker: Docker, download: "subprocess.Popen[str]", tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Dockerfile's base image; where no registry answers, an equivalent one built from Debian's mirror."""
    if docker.call("pull", "--quiet", BASE, check=False, timeout=300).returncode == 0:
        return BASE
    root = tmp_path_factory.mktemp("base") / "root.tar"
    python = "ca-certificates,python3,python3-dev,python3-venv,python3-pip"
    # As in the real image: `python` exists and pip may install. The machine's certificates are copied.
    hook = 'ln -s /usr/bin/python3 "$1/usr/local/bin/python"; rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED; '
    hook += 'cp /etc/ssl/certs/ca-certificates.crt "$1/etc/ssl/certs/"'
    sources = Path("/etc/apt/sources.list.d/debian.sources")
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={python}", f"--customize-hook={hook}"]
    command += ["bookworm", str(root), *([str(sources)] if sources.exists() else [])]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"NOT TESTED: no registry and no Debian mirror for a base image: {done.stderr.strip()[-200:]}")
    path = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    docker.call("import", "--change", path, str(root), "test/python")
    root.unlink()
    return "test/python"


@pytest.fixture(scope="session")
def wheelhouse(docker: Docker, base: str, download: "subprocess.Popen[str]") -> str:
    """The downloaded packages as an image."""
    _, output = download.communicate()
    if download.returncode != 0:
        pytest.skip(f"NOT TESTED: the packages cannot be downloaded: {output.strip()[-300:]}")
    folder = Path(download.args[-1])  # type: ignore[index]
    archive = folder.with_suffix(".tar")
    subprocess.run(["tar", "-C", folder, "-cf", archive, "."], check=True)
    docker.call("import", str(archive), "test/wheelhouse")
    shutil.rmtree(folder.parent)
    return "test/wheelhouse"


@pytest.fixture(scope="session")
def image(docker: Docker, base: str, wheelhouse: str) -> str:
    """medsft:cpu, built as for an air gap: Debian's packages first, then everything else without network."""
    docker.build("system", "test/system", "--network=host", f"--build-arg=BASE={base}")
    offline = ("--network=none", "--build-arg=BASE=test/system", f"--build-arg=WHEELHOUSE={wheelhouse}")
    docker.build("cpu", "medsft:cpu", *offline)
    return "medsft:cpu"


@pytest.fixture(scope="session")
def small_configs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's configuration with fewer rows, steps and tokens."""
    import yaml

    folder = tmp_path_factory.mktemp("configs") / "small"
    folder.mkdir()
    folder.chmod(0o755)
    less = {
        "lora": {"max_train_rows": 8, "max_dev_rows": 2, "max_length": 192, "eval_steps": 2, "save_steps": 1},
        "data": {"max_rows": 60, "max_length": 192},
        "generate": {"max_rows": 4, "max_new_tokens": 8, "likelihood_rows": 2, "memorization_rows": 2},
        "score": {"resamples": 200},
    }
    for path in (RECIPES / "configs" / "demo").glob("*.yaml"):
        values = yaml.safe_load(path.read_text()) | less.get(path.stem, {})
        (folder / path.name).write_text(yaml.safe_dump(values))
    return folder


@pytest.fixture(scope="session")
def readable_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, readable by any uid: safetensors saves weights for their owner only."""
    model = shutil.copytree(tiny_model, tmp_path_factory.mktemp("readable") / "model")
    for file in model.iterdir():
        file.chmod(0o644)
    return model
