"""The images' locks, context and DeepSpeed configurations, as far as they can be checked without building anything."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT

LOCKS = sorted(ROOT.glob("docker/requirements-*.txt"))
LOCKED = [path for path in LOCKS if path.stem != "requirements-checks"]
JOBS = [path for path in ROOT.glob("docker/cloud/*/*") if path.parent.name != "__pycache__"]  # which other tests leave
HEADED = [ROOT / "docker" / "compose.yaml", *JOBS]
NEEDS_A_COMPILER_OF_CUDA = {"adam", "adamw", "lamb", "lion", "muon"}  # DeepSpeed's fused optimizers on a GPU


def pins(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==([\w.+!-]+)", path.read_text(), flags=re.M))


@pytest.mark.parametrize("path", LOCKED, ids=lambda p: p.stem)
def test_every_package_is_pinned_with_hashes_and_without_an_address(path: Path) -> None:
    text = path.read_text()
    blocks = re.split(r"^(?=[\w.-]+==)", text, flags=re.M)[1:]
    assert len(blocks) == len(pins(path))
    assert all("--hash=sha256:" in block for block in blocks)
    assert not re.search(r"://|^-|--(?!hash)|/\w+/", "".join(text.splitlines(keepends=True)[1:]), flags=re.M)


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_the_images_have_the_versions_that_the_tests_run_with(target: str) -> None:
    """The constraints' versions of all that the recipes import; `make lock` writes both."""
    locked = {name.lower(): version for name, version in pins(ROOT / f"docker/requirements-{target}.txt").items()}
    tested = {name.lower().replace("_", "-"): v for name, v in pins(ROOT / "constraints.txt").items()}
    both = locked.keys() & tested.keys()
    assert {"transformers", "trl", "peft", "accelerate", "deepspeed", "bitsandbytes", "datasets"} <= both
    assert {name: locked[name] for name in both} == {name: tested[name] for name in both}
    torch = re.search(r"torch==([\d.]+)", (ROOT / "pyproject.toml").read_text())
    assert torch is not None
    assert locked["torch"] == torch[1] + ("+cpu" if target == "cpu" else "")
    assert ("nvidia-nccl-cu13" in locked) == (target == "gpu")


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_the_images_install_all_that_pyproject_asks_for(target: str) -> None:
    """The other way round: a requirement that was added after `make lock` is missing from an image, and fails there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["train"], *extras["eval"], *extras["deepspeed"]]
    asked += extras["gpu"] if target == "gpu" else []
    names = {re.split(r"[<>=!~\[; ]", requirement)[0].lower().replace("_", "-") for requirement in asked}
    locked = {name.lower().replace("_", "-") for name in pins(ROOT / f"docker/requirements-{target}.txt")}
    assert names <= locked
    assert "kernels" not in locked  # with it bitsandbytes fetches code from the hub as it is imported


def test_nothing_but_what_is_listed_enters_the_context() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "**"
    allowed = [line[1:] for line in rules if line.startswith("!")]
    assert all(list(ROOT.glob(pattern)) for pattern in allowed)
    assert not {"runs", ".venv", ".git", "tests"} & {Path(pattern).parts[0] for pattern in allowed}


@pytest.mark.parametrize("path", HEADED, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_job_file_says_what_it_is_needs_and_how_to_launch_it(path: Path) -> None:
    if path.suffix == ".py":
        return
    head = path.read_text()[:1500]
    assert all(word in head for word in ("# What:", "# Needs:", "# Launch:", "# Override"))
    assert path.name in head


@pytest.mark.parametrize("path", JOBS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_scripts_that_a_job_starts_are_in_the_image(path: Path) -> None:
    if path.suffix == ".py":
        return
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for name in re.findall(r"\b(?:recipes|accelerate_configs|docker)/[\w/.-]+\.(?:py|yaml|json)\b", path.read_text()):
        if not name.startswith("docker/cloud/") or name.endswith(".py"):  # job files are read outside of the image
            assert any(name == each or name.startswith(f"{each}/") for each in allowed), name


@pytest.mark.parametrize("path", HEADED, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_files_that_a_job_names_exist(path: Path) -> None:
    for name in re.findall(r"\b(?:recipes|accelerate_configs|docker)/[\w/.-]+\.\w+", path.read_text()):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize(
    "path",
    [p for p in sorted(ROOT.glob("accelerate_configs/*.yaml")) if "distributed_type: DEEPSPEED" in p.read_text()],
    ids=lambda p: p.stem,
)
def test_no_shipped_deepspeed_configuration_needs_nvcc(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The images have a C++ compiler and no CUDA one. As accelerate hands the configuration to DeepSpeed: an optimizer
    of DeepSpeed's own is a CUDA extension unless it is offloaded, and then it is CPUAdam, which is C++."""
    from accelerate.utils import DeepSpeedPlugin

    written = yaml.safe_load(path.read_text())["deepspeed_config"]
    known = {"zero_stage", "offload_param_device", "offload_optimizer_device"}
    given: dict[str, Any] = {key: value for key, value in written.items() if key in known}
    if "deepspeed_config_file" in written:
        given = {"hf_ds_config": str(ROOT / written["deepspeed_config_file"])}
    config = DeepSpeedPlugin(**given).deepspeed_config
    zero = config.get("zero_optimization", {})
    offloaded = (zero.get("offload_optimizer") or {}).get("device", "none") != "none"
    optimizer = str(config.get("optimizer", {}).get("type", "")).lower()
    assert offloaded or optimizer not in NEEDS_A_COMPILER_OF_CUDA
    assert not {"sparse_attention", "quantize_training", "compression_training"} & config.keys()
    assert not any(key.startswith("zero_quantized") for key in zero)  # ZeRO++ quantizes by CUDA kernels


def test_the_operators_of_offload_are_compiled_from_cpp_alone() -> None:
    """Asked of DeepSpeed's CUDA accelerator, which is what an image with a GPU has; its FusedAdam is the contrast."""
    from deepspeed.accelerator.cuda_accelerator import CUDA_Accelerator

    cuda = CUDA_Accelerator.__new__(CUDA_Accelerator)  # without a GPU to find
    cuda.class_dict = None

    def is_cuda(name: str) -> bool:
        return any(source.endswith(".cu") for source in cuda.create_op_builder(name).sources())

    assert not is_cuda("CPUAdamBuilder")
    assert not is_cuda("AsyncIOBuilder")
    assert is_cuda("FusedAdamBuilder")
