"""Several processes share the rows of one arm: nothing twice, nothing left out, and the answers of one process."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from conftest import RECIPES, ROOT, run_script
from medsft.files import read_json
from medsft.inference import shards
from medsft.inference.shards import Shard
from training_runs import ACCELERATE

TWO = (*ACCELERATE, "--config_file", str(ROOT / "accelerate_configs" / "multi_cpu.yaml"))


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_batches_are_shared_without_overlap_whatever_is_done(count: int, padded: bool) -> None:
    rows, done = list(range(100, 123)), {100, 101, 102, 103, 111}
    whole = dict(shards.batches(rows, 4, lambda row: False, Shard(), padded=True))
    shared = [[*shards.batches(rows, 4, done.__contains__, Shard(n, count), padded)] for n in range(count)]
    answered = [row for share in shared for _, batch in share for row in batch]
    assert len(answered) == len(set(answered))
    assert set(answered) | done == set(rows)
    for start, batch in (pair for share in shared for pair in share):
        assert set(batch) <= set(whole[start])  # also the same seed: it follows from `start`
        assert not padded or batch == whole[start]  # what is padded together is as in one process
    if padded:
        assert max(map(len, shared)) - min(map(len, shared)) <= 1


def test_part_files_of_more_processes_are_found(tmp_path: Path) -> None:
    path = tmp_path / "generations.jsonl"
    parts = [shards.part_file(path, "abc", Shard(number, 3)) for number in range(3)]
    assert parts[0].name == "generations.abc.partial.jsonl"
    for part in (*parts, tmp_path / "generations.abd.partial.jsonl", tmp_path / "seed_1.abc.partial.jsonl"):
        part.touch()
    assert shards.part_files(path, "abc") == sorted(parts)


def test_each_process_of_a_launch_keeps_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "visible_gpus", lambda: ("NVIDIA L40S", 4, 1, 1))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    shards.keep_one_gpu()
    assert "CUDA_VISIBLE_DEVICES" not in os.environ  # no launcher: as it was
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_RANK", "2")
    shards.keep_one_gpu()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a, GPU-b,GPU-c,GPU-d")
    shards.keep_one_gpu()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-c"
    monkeypatch.setattr(shards, "visible_gpus", lambda: ("none", 0, 0, 0))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    shards.keep_one_gpu()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


def test_a_process_measures_its_own_batches_only() -> None:
    own = [Shard(number, 2).every(lambda batch: [float(x) for x in batch]) for number in (0, 1)]
    values = [[share([1, 2]), share([3]), share([4, 5])] for share in own]
    assert values == [[[1, 2], [0], [4, 5]], [[0, 0], [3], [0, 0]]]
    assert Shard().total([1.5, 2]) == [1.5, 2]


@pytest.mark.slow
def test_two_processes_are_killed_and_one_ends_with_the_answers_of_one(
    tiny_study: Path, random_model: Path, tmp_path: Path
) -> None:
    for name in ("one", "two", "killed"):
        shutil.copytree(tiny_study / "data", tmp_path / name / "data")
    flags = ["--model_name_or_path", random_model, "--max_new_tokens", 60, "--batch_size", 2, "--max_rows", 12]
    flags += ["--do_sample", "true", "--seeds", 3, "--likelihood_rows", 7, "--memorization_rows", 4]
    flags += ["--dtype", "float32"]
    for name, launcher in (("one", ()), ("two", TWO)):
        done = run_script("generate.py", "--study_dir", tmp_path / name, *flags, launcher=launcher)
        assert done.returncode == 0, done.stderr[-2000:]
    assert read_json(tmp_path / "two" / "baseline" / "generation.json")["processes"] == 2

    command = [*TWO, RECIPES / "generate.py", "--study_dir", tmp_path / "killed", *flags]
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    folder, until = tmp_path / "killed" / "baseline", time.monotonic() + 200
    while time.monotonic() < until and sum(p.stat().st_size > 0 for p in folder.glob("generations.*.jsonl")) < 2:
        time.sleep(0.01)
    for member in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
        member.send_signal(signal.SIGKILL)
    process.wait()
    parts = [*folder.glob("generations.*.partial.jsonl")]
    assert len(parts) == 2  # one of each process
    assert not (folder / "generations.jsonl").exists()
    with parts[1].open("a") as handle:
        handle.write('{"id": "torn')  # what a crash in the middle of a line leaves
    done = run_script("generate.py", "--study_dir", tmp_path / "killed", *flags)
    assert done.returncode == 0, done.stderr[-2000:]
    for name in ("generations.jsonl", "sampled/seed_3.jsonl", "likelihood.jsonl", "memorization.jsonl"):
        alone = (tmp_path / "one" / "baseline" / name).read_text()
        assert (folder / name).read_text() == alone
        assert (tmp_path / "two" / "baseline" / name).read_text() == alone
    assert not [*tmp_path.rglob("*.partial.jsonl")]
