"""The Kubernetes Job's pod, as the template has it, under podman: without a cluster, but by the same manifest."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT
from containers.conftest import debian
from containers.engine import Docker

# ten times what an idle machine with two cores takes
pytestmark = [pytest.mark.containers, pytest.mark.slow, pytest.mark.timeout(1800)]
# For root inside a virtual machine: limits that it may set, and the host's network.
CONFIG = """
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]
netns = "host"
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
"""


@pytest.fixture(scope="module")
def podman(docker: Docker, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A podman for the tests alone, with the image that Docker built: its command, environment and image name."""
    debian(podman="podman", runc="runc", conmon="conmon", catatonit="catatonit")
    folder = tmp_path_factory.mktemp("podman")
    (folder / "containers.conf").write_text(CONFIG)
    env = os.environ | {"CONTAINERS_CONF": str(folder / "containers.conf")}
    command = ["podman", f"--root={folder}/root", f"--runroot={folder}/run", f"--tmpdir={folder}/tmp"]
    save = subprocess.Popen([docker.binary, "save", image], env=docker.env, stdout=subprocess.PIPE)
    loaded = subprocess.run([*command, "load", "--quiet"], env=env, stdin=save.stdout, capture_output=True, text=True)
    assert save.wait() == 0
    assert loaded.returncode == 0, loaded.stderr
    name = loaded.stdout.strip().split(": ")[-1]  # podman adds a registry
    yield {"command": command, "env": env, "image": name}
    subprocess.run([*command, "system", "reset", "--force"], env=env, capture_output=True)


def call(podman: dict[str, Any], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*podman["command"], *arguments]
    return subprocess.run(command, env=podman["env"], stdin=subprocess.DEVNULL, capture_output=True, text=True)


def test_the_pod_of_the_job_trains(podman: dict[str, Any], readable_model: Path, tmp_path: Path) -> None:
    """The template, except for what a laptop lacks: the GPU, the registry, the model and the claimed volumes."""
    job = yaml.safe_load((ROOT / "docker" / "cloud" / "kubernetes" / "job.yaml").read_text())
    template = job["spec"]["template"]
    (container,) = template["spec"]["containers"]
    container["image"] = podman["image"]
    container["imagePullPolicy"] = "Never"
    container["resources"] = {"limits": {"memory": "8Gi"}}
    recipe = ["recipes/sft_lora.py", "--config", "recipes/configs/demo/lora.yaml", "--study_dir", "runs/pod"]
    few = ["--max_steps", "3", "--max_train_rows", "12", "--eval_strategy", "no"]
    container["args"] = ["docker/cloud/launch.py", *recipe, "--model_name_or_path", "/model", *few]
    container["volumeMounts"].append({"name": "model", "mountPath": "/model"})
    runs = tmp_path / "runs"
    runs.mkdir()
    os.chown(runs, template["spec"]["securityContext"]["runAsUser"], -1)
    volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
    volumes["runs"] = {"name": "runs", "hostPath": {"path": str(runs)}}
    volumes["cache"] = {"name": "cache", "emptyDir": {}}
    volumes["model"] = {"name": "model", "hostPath": {"path": str(readable_model)}}
    del volumes["hub-token"]  # optional in Kubernetes, required by podman
    container["volumeMounts"] = [mount for mount in container["volumeMounts"] if mount["name"] in volumes]
    template["spec"]["volumes"] = list(volumes.values())
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "medsft"}, "spec": template["spec"]}
    manifest = tmp_path / "pod.yaml"
    manifest.write_text(yaml.safe_dump(pod))

    played = call(podman, "kube", "play", "--network=none", str(manifest))
    assert played.returncode == 0, played.stderr
    status = call(podman, "wait", "medsft-sft").stdout.strip()
    logs = call(podman, "logs", "medsft-sft")
    inspected = json.loads(call(podman, "inspect", "medsft-sft").stdout)[0]
    call(podman, "kube", "down", str(manifest))
    assert status == "0", (logs.stdout + logs.stderr)[-3000:]
    assert inspected["HostConfig"]["ReadonlyRootfs"]
    assert inspected["Config"]["User"].startswith("10001")
    trained = json.loads((runs / "pod" / "lora" / "train.json").read_text())
    assert trained["steps"] == 3
