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
from medsft.errors import UserError
from medsft.files import read_json
from medsft.inference import shards
from medsft.inference.shards import Shard
from training_runs import ACCELERATE

TWO = (*ACCELERATE, "--config_file", str(ROOT / "accelerate_configs" / "multi_cpu.yaml"))


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_batches_are_shared_without_overlap_whatever_is_done(count: int, padded: bool) -> None:
    rows, done = list(range(100, 123)), {100, 101, 102, 103, 111}
    whole = [*shards.batches(rows, 4, lambda row: False, Shard(), padded=True)]
    shared = [[*shards.batches(rows, 4, done.__contains__, Shard(n, count), padded)] for n in range(count)]
    answered = [row for share in shared for batch in share for row in batch]
    assert len(answered) == len(set(answered))
    assert set(answered) | done == set(rows)
    for batch in (batch for share in shared for batch in share):
        (of,) = [each for each in whole if set(batch) <= set(each)]
        assert not padded or batch == of  # what is padded together is as in one process
    if padded:
        assert max(map(len, shared)) - min(map(len, shared)) <= 1


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize(("shares", "count"), [(2, 1), (3, 2), (8, 4)])
def test_a_share_is_the_same_whatever_the_others_have_done(shares: int, count: int, padded: bool) -> None:
    """Shares begin at different times: what one has to answer must not follow from what it finds done."""
    rows = list(range(100, 123))

    def answered(share: int, done: set[int]) -> list[int]:
        launch = [batches_of(rows, Shard(n, count, share, shares), padded, done) for n in range(count)]
        return sorted(row for process in launch for batch in process for row in batch)

    alone = [answered(share, set()) for share in range(shares)]
    assert sorted(row for share in alone for row in share) == rows
    for share, own in enumerate(alone):
        assert answered(share, {*rows} - {*own}) == own
        assert answered(share, {*own}) == []


def batches_of(rows: list[int], shard: Shard, padded: bool, done: set[int]) -> list[list[int]]:
    return [*shards.batches(rows, 4, done.__contains__, shard, padded)]


@pytest.mark.parametrize(
    ("share", "shares", "message"), [(0, 0, "shards 0: give how many"), (8, 8, "from 0 to 7"), (-1, 2, "from 0 to 1")]
)
def test_a_share_that_does_not_exist_is_refused(share: int, shares: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        shards.check(share, shares)


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


FILES = ("generations.jsonl", "sampled/seed_3.jsonl", "likelihood.jsonl", "memorization.jsonl")


@pytest.mark.slow
def test_a_share_is_killed_and_submitted_again_and_all_is_as_of_one_process(
    tiny_study: Path, random_model: Path, tmp_path: Path
) -> None:
    """Two shares, of which the second is two processes and killed; a third of the rows is answered by a late whole."""
    for name in ("one", "job", "lost"):
        shutil.copytree(tiny_study / "data", tmp_path / name / "data")
    flags = ["--model_name_or_path", random_model, "--max_new_tokens", 60, "--batch_size", 2, "--max_rows", 12]
    flags += ["--do_sample", "true", "--seeds", 3, "--likelihood_rows", 9, "--memorization_rows", 4]
    flags += ["--dtype", "float32"]

    def share(study: str, *words: object, launcher: tuple[str, ...] = ()) -> str:
        done = run_script("generate.py", "--study_dir", tmp_path / study, *flags, *words, launcher=launcher)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    share("one")
    alone = {name: (tmp_path / "one" / "baseline" / name).read_text() for name in FILES}

    second = [*TWO, RECIPES / "generate.py", "--study_dir", tmp_path / "job", *flags, "--shard", 1, "--shards", 2]
    process = subprocess.Popen([*map(str, second)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    folder, until = tmp_path / "job" / "baseline", time.monotonic() + 200
    while time.monotonic() < until and not any(part.stat().st_size for part in folder.glob("generations.*.jsonl")):
        time.sleep(0.01)
    for member in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
        member.send_signal(signal.SIGKILL)
    process.wait()
    (part, *_) = folder.glob("generations.*.share_1*.partial.jsonl")
    with part.open("a") as handle:
        handle.write('{"id": "torn')  # what a crash in the middle of a line leaves
    kept = part.read_text().splitlines()[0]

    assert "rows of other shares are not here yet" in share("job", "--shard", 0, "--shards", 2)
    assert not (folder / "generations.jsonl").exists()
    waiting = run_script("score.py", "--study_dir", tmp_path / "job")
    assert "rows are not answered yet, so this run is not scored" in waiting.stderr
    assert "is answered" in share("job", "--shard", 0, "--shards", 2)  # nothing is left for it
    assert part.read_text().splitlines()[0] == kept
    assert "12 answers" in share("job", "--shard", 1, "--shards", 2, launcher=TWO)
    assert {name: (folder / name).read_text() for name in FILES} == alone
    record = read_json(folder / "generation.json")
    assert (record["shares"], record["processes"], record["n"]) == (2, 3, 12) and "seconds" not in record
    assert not [*folder.rglob("*.partial.*")]

    share("lost", "--shard", 2, "--shards", 3)  # the machines of the other shares are gone for good
    share("lost")
    assert {name: (tmp_path / "lost" / "baseline" / name).read_text() for name in FILES} == alone


@pytest.mark.slow
def test_score_puts_shares_together_that_ended_at_the_same_moment(
    tiny_study: Path, random_model: Path, tmp_path: Path
) -> None:
    """Then neither has seen the other's last rows, as on a file system that shows them late."""
    study = tmp_path / "study"
    shutil.copytree(tiny_study / "data", study / "data")
    flags = ["--study_dir", study, "--model_name_or_path", random_model, "--max_new_tokens", 8, "--max_rows", 6]
    hidden = tmp_path / "hidden"
    for number in (0, 1):
        words = ("--batch_size", 2, "--shard", number, "--shards", 2)
        done = run_script("generate.py", *flags, *words)
        assert done.returncode == 0, done.stderr[-2000:]
        if number == 0:
            shutil.move(study / "baseline", hidden)
    for left in hidden.iterdir():
        shutil.move(left, study / "baseline" / left.name)
    assert not (study / "baseline" / "generations.jsonl").exists()
    done = run_script("score.py", "--study_dir", study, "--resamples", 100)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "the shares' answers are put together" in done.stdout
    assert read_json(study / "baseline" / "scores.json")["n"] == 6
