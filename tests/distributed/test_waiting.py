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


# Two machines of two processes each. Arguments: rank, folder. The first process comes last, and the machines share no
# folder.
MACHINES = """
import datetime, json, os, pathlib, sys, time
rank, folder = int(sys.argv[1]), pathlib.Path(sys.argv[2])
os.environ["GROUP_RANK"] = str(rank // 2)
import torch.distributed as dist
from medsft.distributed import waiting
from medsft.errors import UserError

dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=4)
dist.barrier()
time.sleep(1.5 - rank / 2)
with waiting.first(rank % 2 == 0):
    with (folder / "order").open("a") as file:
        file.write(f"{rank} ")
own = folder / f"machine{rank // 2}.json"

def decide():
    own.write_text("[3]")
    return json.loads(own.read_text())

assert waiting.decided(rank == 0, decide) == [3]
assert own.exists() == (rank < 2)

def fail():
    raise ValueError("no")

try:
    waiting.decided(rank == 0, fail)
except (ValueError, UserError) as error:
    assert isinstance(error, ValueError) == (rank == 0), error
else:
    raise SystemExit("a failed decision was taken")
dist.barrier()
os._exit(0)
"""


def test_one_process_waits_for_nobody() -> None:
    with waiting.first(False):
        pass
    assert waiting.decided(False, lambda: 3) == 3


@pytest.mark.slow
def test_machines_take_turns_and_agree_on_what_the_first_process_decides(tmp_path: Path) -> None:
    started = [
        subprocess.Popen([sys.executable, "-c", MACHINES, str(rank), str(tmp_path)], stderr=subprocess.PIPE, text=True)
        for rank in range(4)
    ]
    for process in started:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors[-2000:]
    first, *others = (tmp_path / "order").read_text().split()
    assert first == "0"
    assert others.index("2") < others.index("3") and set(others) == {"1", "2", "3"}


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
