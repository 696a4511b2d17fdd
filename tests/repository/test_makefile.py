"""What `make setup` would run: read from a dry run, which installs nothing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT, make

PINS = "-c constraints.txt"


def would_install(tmp_path: Path, with_uv: bool, **environment: str) -> list[str]:
    """The commands that install packages, in an environment where pip has no settings but those given."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "sh", "sed", "grep", "nproc", "uname", "date"):
        if found := shutil.which(name):
            (tools / name).symlink_to(found)
    if with_uv:
        (tools / "uv").write_text("#!/bin/sh\nexit 1\n")
        (tools / "uv").chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    kept |= {"PATH": str(tools), "PIP_CONFIG_FILE": os.devnull, **environment}
    command = [str(shutil.which("make")), "--dry-run", "setup", f"VENV={tmp_path}/venv", f"PYTHON={sys.executable}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=kept)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if "pip install" in line]


@pytest.mark.parametrize(
    ("with_uv", "environment", "by"),
    [
        (False, {}, "python -m pip install"),
        (True, {}, "uv pip install"),
        (True, {"PIP_INDEX_URL": "https://packages.example.org"}, "python -m pip install"),
        (
            True,
            {"PIP_INDEX_URL": "https://a.example.org", "UV_DEFAULT_INDEX": "https://a.example.org"},
            "uv pip install",
        ),
    ],
    ids=["without uv", "with uv", "pip has an index that uv does not know", "both know it"],
)
def test_uv_installs_where_it_is_and_knows_the_index(
    with_uv: bool, environment: dict[str, str], by: str, tmp_path: Path
) -> None:
    torch, pinned, embedded = would_install(tmp_path, with_uv, **environment)
    assert all(by in line for line in (torch, pinned, embedded))
    assert "--no-deps" in torch and "torch==" in torch
    assert PINS in pinned and "train,eval,deepspeed" in pinned
    assert PINS in embedded and "--no-deps" in embedded


def test_an_empty_index_means_the_cuda_build_also_without_a_gpu(tmp_path: Path) -> None:
    """On a cluster's login node, for the nodes that have GPUs."""
    torch, pinned, _ = would_install(tmp_path, False, TORCH_INDEX="")
    assert '"torch==' in torch and "+cpu" not in torch and "--extra-index-url" not in torch
    assert "deepspeed,gpu]" in pinned


STAND_IN = """#!/bin/sh
echo "$@" >>{log}
case "$*" in
  *launch_command*) echo "true --config recipes/configs/mistral_7b/full_8bit.yaml";;
  *check_only*qlora.yaml*) exit 3;;
  *sft_lora.py*) exit {status};;
esac
"""


@pytest.mark.parametrize("status", [0, 1])
def test_a_study_goes_on_without_an_arm_that_fails_and_ends_as_failed(status: int, tmp_path: Path) -> None:
    """QLoRA does not fit, which is no failure; LoRA's training ends with `status`."""
    (tmp_path / "bin").mkdir()
    python, log = tmp_path / "bin" / "python", tmp_path / "log"
    python.write_text(STAND_IN.format(log=log, status=status))
    python.chmod(0o755)
    for stamp in (".torch", ".run", ".operators"):
        (tmp_path / stamp).touch()
    command = ["make", "study", f"VENV={tmp_path}", "STUDY=none", "TUNE=0", "CONFIG=mistral_7b"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode == 0) == (status == 0), done.stdout + done.stderr
    assert "qlora is left out of this study" in done.stdout
    assert ("the training of lora failed" in done.stdout) == (status != 0)
    asked = log.read_text()
    assert "sft_lora.py --config recipes/configs/mistral_7b/lora.yaml" in asked
    assert "sft_lora.py --config recipes/configs/mistral_7b/qlora.yaml" not in asked
    assert asked.index("recipes/score.py") < asked.index("recipes/report.py")


def test_recipes_for_the_processor_are_one_process_beside_gpus(tmp_path: Path) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: A'\necho 'GPU 1: A'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    kept = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def started(*words: str) -> list[str]:
        done = subprocess.run(["make", "--dry-run", *words], cwd=ROOT, capture_output=True, text=True, env=kept)
        return [line for line in done.stdout.splitlines() if "sft_lora.py" in line]

    assert started("paper") and not any("accelerate launch" in line for line in started("paper"))
    assert all("accelerate launch" in line for line in started("lora", "CONFIG=mistral_7b"))


def dry_run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What make would run."""
    return make("--dry-run", *words, **environment)


def test_a_variable_called_make_does_not_take_its_place() -> None:
    done = dry_run("study", "CONFIG=demo", MAKE="study")
    assert done.returncode == 0 and "recipes/report.py" in done.stdout, done.stderr


@pytest.mark.parametrize("target", ["lora", "qlora", "fft", "fft-offload"])
def test_an_arm_is_trained_on_the_data_that_is_named(target: str) -> None:
    lines = dry_run(target, "CONFIG=demo", "STUDY=mine", "DATA=mine.jsonl").stdout.splitlines()
    prepared = next(at for at, line in enumerate(lines) if "prepare_data.py" in line and "--data mine.jsonl" in line)
    assert any("launch_command" in line or "recipes/sft_" in line for line in lines[prepared:])
    assert "prepare_data.py" not in dry_run(target, "CONFIG=demo", "STUDY=mine").stdout


def test_quick_0_is_not_quick() -> None:
    lasting, quick = (dry_run("demo", f"QUICK={value}").stdout for value in (0, 1))
    assert "STUDY=demo_quick" in quick and "--max_steps 4" in quick
    assert "STUDY=demo_quick" not in lasting and "--max_steps 4" not in lasting
    assert "--short" not in dry_run("bench", "SHORT=0").stdout and "--short" in dry_run("bench", "SHORT=1").stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [(("CONFIG=paper",), "use make study CONFIG=paper"), (("SEEDS=1 2",), "takes a number of seeds, such as SEEDS=3")],
)
def test_what_the_demo_does_not_do_is_said(words: tuple[str, ...], said: str) -> None:
    assert f"{said}" in dry_run("demo", *words).stdout
    assert said not in dry_run("demo", "CONFIG=demo", "SEEDS=3").stdout
