"""What `make setup` would run: read from a dry run, which installs nothing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

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
