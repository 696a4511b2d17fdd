"""Processes that wait for the first one: longer than their group's time-out, and where one of them comes late."""

import subprocess
import sys
from pathlib import Path

import pytest

from conftest import RECIPES
from medsft.distributed import waiting

# arguments: rank, folder. The split of study `slow` takes longer than the group waits, that of `late` is there before
# the second process asks for it.
PROCESS = """
import datetime, json, pathlib, sys, time, types
import torch.distributed as dist
from medsft.arguments import StudyArguments
from medsft.training import run_folder

rank, folder = int(sys.argv[1]), pathlib.Path(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
dist.barrier()
dist.distributed_c10d._set_pg_timeout(datetime.timedelta(seconds=10))
prepared = []

def prepare(data):
    prepared.append(data.study_dir)
    time.sleep(13 if data.study_dir.endswith("slow") else 0)
    path = pathlib.Path(data.study_dir) / "data"
    path.mkdir(parents=True)
    (path / "data_report.json").write_text("{}")

run_folder.prepare = prepare
config = types.SimpleNamespace(local_process_index=rank)
for name in ("slow", "late"):
    time.sleep(2 * rank if name == "late" else 0)
    study = StudyArguments(study_dir=str(folder / name))
    run_folder.ensure_split(study, config, ["--config", sys.argv[3]])
found = [None, None]
dist.all_gather_object(found, len(prepared))
assert found == [2, 0], found
"""


def test_one_process_waits_for_nobody() -> None:
    with waiting.first(False):
        pass


@pytest.mark.slow
def test_a_long_preparation_and_a_late_process_keep_all_in_step(tmp_path: Path) -> None:
    recipe = RECIPES / "configs" / "demo" / "lora.yaml"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(rank), str(tmp_path), str(recipe)], stderr=subprocess.PIPE, text=True
        )
        for rank in (0, 1)
    ]
    for process in started:
        _, errors = process.communicate(timeout=240)
        assert process.returncode in (0, -6), errors[-2000:]  # -6: torch's gloo at the interpreter's end
        assert "Error" not in errors
