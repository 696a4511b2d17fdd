"""Dockerfile, compose file, scripts and job files, each checked offline by the tool that will read it."""

import os
import subprocess
from pathlib import Path

import pytest

from conftest import ROOT

pytestmark = [pytest.mark.containers, pytest.mark.slow]
TOOLS = ROOT / ".venv" / "checks" / "bin"
CLOUD = ROOT / "docker" / "cloud"
SCRIPTS = [*ROOT.glob("docker/*.sh"), ROOT / "docker" / "entrypoint", *CLOUD.glob("slurm/*"), ROOT / ".ci" / "run"]


def check(*command: object, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        [TOOLS / str(command[0]), *map(str, command[1:])], cwd=ROOT, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_dockerfile() -> None:
    check("hadolint", "--config", "docker/hadolint.yaml", "docker/Dockerfile")


def test_compose_file() -> None:
    check("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker/compose.yaml")


@pytest.mark.parametrize("path", sorted(ROOT.glob(".github/workflows/*.y*ml")), ids=lambda p: p.stem)
def test_workflow(path: Path) -> None:
    check("check-jsonschema", "--builtin-schema", "vendor.github-workflows", path)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.name)
def test_shell_script(path: Path) -> None:
    check("shellcheck", path)


@pytest.mark.parametrize("name", ["storage", "job", "multinode", "evaluate"])
def test_kubernetes_manifest(name: str) -> None:
    check("kubernetes-validate", "--strict", CLOUD / "kubernetes" / f"{name}.yaml")


TRAINJOB = """
import sys, yaml
from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob
given = yaml.safe_load(open(sys.argv[1]))
assert TrainerV1alpha1TrainJob.from_dict(given).to_dict() == given, "a key that TrainJob does not know"
"""
DSTACK = """
import sys, yaml
from dstack._internal.core.models.configurations import parse_apply_configuration
parse_apply_configuration(yaml.safe_load(open(sys.argv[1])))
"""
SKYPILOT = """
import sys, sky
known = set(sys.argv[2].split(","))
for resources in sky.Task.from_yaml(sys.argv[1]).resources:
    assert set(resources.accelerators) <= known, resources
"""


def test_trainjob_comes_back_as_it_was() -> None:
    """The class silently drops unknown keys, so the object is written out again and compared."""
    check("python", "-c", TRAINJOB, CLOUD / "kubernetes" / "trainjob.yaml")


@pytest.mark.parametrize("path", sorted(CLOUD.glob("dstack/*.yml")), ids=lambda p: p.stem)
def test_dstack_file(path: Path) -> None:
    check("python", "-c", DSTACK, path)


@pytest.mark.parametrize("path", sorted(CLOUD.glob("skypilot/*.yaml")), ids=lambda p: p.stem)
def test_skypilot_file(path: Path, tmp_path: Path) -> None:
    """With our own list of GPUs: SkyPilot would download one, and accepts names that are not in it."""
    gpus = {"A100-80GB": 80, "H100": 80, "L40S": 48}
    catalog = tmp_path / ".sky" / "catalogs" / "v8" / "common"
    catalog.mkdir(parents=True)
    (catalog / "accelerators.csv").write_text("AcceleratorName,Clouds\n" + "".join(f"{gpu},aws\n" for gpu in gpus))
    memory = "".join(f"{gpu},{size},NVIDIA\n" for gpu, size in gpus.items())
    (catalog / "metadata.csv").write_text("GPU,MemoryGB,Manufacturer\n" + memory)
    check("python", "-c", SKYPILOT, path, ",".join(gpus), env=os.environ | {"HOME": str(tmp_path)})
