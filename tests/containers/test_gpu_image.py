"""The gpu and gpu-cloud images, really built and entered without a GPU: make test-containers GPU_IMAGE=1

Apart from the other container tests, as they download 3 GB, take 30 GB of disk for a while and ten minutes.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import ROOT
from containers.engine import LOCKED_DOWN, Docker

pytestmark = [
    pytest.mark.containers,
    pytest.mark.slow,
    pytest.mark.timeout(5400),
    pytest.mark.skipif(not os.environ.get("GPU_IMAGE"), reason="GPU_IMAGE=1 builds the gpu images: 30 GB of disk"),
]
NEEDED = 35e9  # bytes: packages, their archive, the image that holds them, the images themselves
IMPORTS = "torch, triton, transformers, trl, peft, accelerate, datasets, bitsandbytes, deepspeed, torchao, pynvml"
CUDA = """
import ctypes, pathlib, torch
print(torch.__version__, torch.version.cuda, torch.backends.cudnn.version())
for name in ("cublas", "cudnn", "nccl", "cusparse", "cufft", "nvrtc"):
    found = sorted(pathlib.Path(torch.__file__).parents[1].glob(f"nvidia/**/lib{name}.so.*"))
    assert found, name
    ctypes.CDLL(str(found[0]), mode=ctypes.RTLD_GLOBAL)
from bitsandbytes.cextension import get_cuda_bnb_library_path
from bitsandbytes.cuda_specs import CUDASpecs
major, minor = map(int, torch.version.cuda.split("."))
version = {"cuda_version_string": f"{major}{minor}", "cuda_version_tuple": (major, minor)}
specs = CUDASpecs(highest_compute_capability=(9, 0), **version)
assert get_cuda_bnb_library_path(specs).is_file(), get_cuda_bnb_library_path(specs)
assert torch.cuda.get_arch_list() == [] or "sm_90" in torch.cuda.get_arch_list()
print("libraries load")
"""


@pytest.fixture(scope="module")
def gpu_image(docker: Docker, base: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """medsft:gpu, built from a wheelhouse without network, as for an air gap; its time and size are printed."""
    folder = tmp_path_factory.mktemp("gpu") / "wheels"
    if shutil.disk_usage(folder.parent).free < NEEDED:
        pytest.skip(f"NOT TESTED: less than {NEEDED / 1e9:.0f} GB of disk are free")
    started = time.monotonic()
    download = ["docker/wheelhouse.sh", "gpu", str(folder)]
    done = subprocess.run(
        download, cwd=ROOT, env=os.environ | {"PYTHON": sys.executable}, capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"NOT TESTED: the packages cannot be downloaded: {done.stderr.strip()[-300:]}")
    size = sum(file.stat().st_size for file in folder.iterdir())
    archive = folder.with_suffix(".tar")
    subprocess.run(["tar", "-C", folder, "-cf", archive, "."], check=True)
    shutil.rmtree(folder)
    docker.call("import", str(archive), "test/gpu-wheelhouse")
    archive.unlink()
    downloaded = time.monotonic()
    docker.build("system", "test/system", "--network=host", f"--build-arg=BASE={base}")
    offline = ("--network=none", "--build-arg=BASE=test/system", "--build-arg=WHEELHOUSE=test/gpu-wheelhouse")
    docker.build("gpu", "medsft:gpu", *offline)
    print(f"gpu image: packages {size / 1e9:.2f} GB in {downloaded - started:.0f} s, built in "
          f"{time.monotonic() - downloaded:.0f} s")  # fmt: skip
    yield "medsft:gpu"


def inside(docker: Docker, image: str, *command: str, check: bool = True) -> str:
    entry = ("--entrypoint=tini", image, "--", "docker/entrypoint")
    done = docker.call(
        "run", "--rm", *LOCKED_DOWN, "--tmpfs=/cache", "--tmpfs=/workspace", *entry, *command, check=check
    )
    return done.stdout


def test_what_a_gpu_would_import_is_there(docker: Docker, gpu_image: str) -> None:
    (facts,) = json.loads(docker.call("inspect", gpu_image).stdout)
    print(f"gpu image: {facts['Size'] / 1e9:.2f} GB")
    assert facts["Size"] < 12e9
    assert facts["Config"]["User"] == "10001:0"
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in facts["Config"]["Env"]
    assert not [word for word in facts["Config"]["Env"] if "TOKEN" in word or "NVIDIA_VISIBLE" in word]
    said = inside(docker, gpu_image, "python", "-c", f"import {IMPORTS}\nprint('all imported')")
    assert "all imported" in said
    said = inside(docker, gpu_image, "python", "-c", CUDA)
    assert "libraries load" in said and "2.13.0" in said
    broken = inside(docker, gpu_image, "sh", "-c", "pip check", check=False)
    assert "No broken requirements" in broken or "is not installed" in broken, broken


def test_it_plans_and_says_what_is_missing(docker: Docker, gpu_image: str) -> None:
    plan = ("python", "recipes/plan_memory.py", "--config", "recipes/configs/mistral_7b/lora.yaml")
    said = inside(docker, gpu_image, *plan, "--gpu", "l40s", "--host", "64GB", "--disk", "500GB")
    assert "recommended: lora" in said and "lora.yaml (lora) fits" in said
    assert "GPU" in inside(docker, gpu_image, "python", "recipes/doctor.py", check=False)
    refused = inside(docker, gpu_image, "accelerate", "launch", "recipes/sft_lora.py", check=False)
    assert "needs an NVIDIA GPU" in refused and "what works on this machine: make demo" in refused


def test_a_step_trains_on_the_processor(
    docker: Docker, gpu_image: str, small_configs: Path, readable_model: Path, tmp_path: Path
) -> None:
    """One process, and ZeRO-3 with its operators compiled by the image's own compiler."""
    runs = tmp_path / "runs"
    runs.mkdir()
    os.chown(runs, 10_001, 10_001)
    mounts = (
        *("--volume=gpu-cache:/cache", f"--volume={runs}:/workspace", f"--volume={readable_model}:/model:ro"),
        f"--volume={small_configs}:/opt/medsft/recipes/configs/small:ro",
    )
    options = ("--model_name_or_path", "/model", "--max_steps", "2")
    lora = ("recipes/sft_lora.py", "--config", "recipes/configs/small/lora.yaml")
    docker.call("run", "--rm", *LOCKED_DOWN, *mounts, gpu_image, "make", "data", "CONFIG=small", "STUDY=small")
    docker.call(
        "run", "--rm", *LOCKED_DOWN, *mounts, gpu_image, "python", *lora, "--study_dir", "runs/small", *options
    )  # fmt: skip
    record = json.loads((runs / "small" / "lora" / "train.json").read_text())
    assert record["steps"] == 2 and record["wrapped_by"] == "none"


def test_the_cloud_image_logs_in_as_root_with_the_same_environment(docker: Docker, gpu_image: str) -> None:
    offline = ("--build-arg=BASE=test/system", "--build-arg=WHEELHOUSE=test/gpu-wheelhouse", "--network=host")
    started = time.monotonic()
    docker.build("gpu-cloud", "medsft:gpu-cloud", *offline)
    print(f"gpu-cloud image: built in {time.monotonic() - started:.0f} s")
    (facts,) = json.loads(docker.call("inspect", "medsft:gpu-cloud").stdout)
    assert facts["Config"]["User"] == "0:0" and not facts["Config"]["Entrypoint"]
    look = ". /etc/environment; PATH=$PATH:/usr/sbin; for name in sshd curl git rsync sudo; do command -v $name; done; "
    look += "python -c 'import torch'; echo $MEDSFT_CACHE"
    said = docker.call("run", "--rm", "--network=none", "medsft:gpu-cloud", "sh", "-c", look).stdout.split()
    assert [Path(word).name for word in said] == ["sshd", "curl", "git", "rsync", "sudo", "medsft"]
