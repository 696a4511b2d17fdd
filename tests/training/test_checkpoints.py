"""Whatever a crash leaves behind, the newest whole checkpoint is found and nothing damaged is resumed from."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsft import manifest
from medsft.training import checkpoints

FILES = {"adapter_model.safetensors": b"weights" * 40, "optimizer.pt": b"states" * 40, "trainer_state.json": b"{}\n"}


def make(folder: Path, step: int) -> Path:
    checkpoint = folder / f"checkpoint-{step}"
    (checkpoint / "global_step").mkdir(parents=True)
    for name, content in FILES.items():
        (checkpoint / name).write_bytes(content + str(step).encode())
    (checkpoint / "global_step" / "shard.pt").write_bytes(b"shard" * 40)
    manifest.write(checkpoint)
    return checkpoint


@pytest.fixture
def arm(tmp_path: Path) -> Path:
    for step in (2, 10, 9):  # by number, not by name or time
        make(tmp_path, step)
    return tmp_path


def test_the_newest_is_the_one_of_the_most_steps(arm: Path) -> None:
    assert checkpoints.newest(arm) == arm / "checkpoint-10"
    assert checkpoints.newest(arm / "nowhere") is None


def test_one_without_a_manifest_was_not_finished_and_goes(arm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (arm / "checkpoint-10" / manifest.MANIFEST).unlink()
    assert checkpoints.newest(arm) == arm / "checkpoint-9"
    assert not (arm / "checkpoint-10").exists()
    assert "was not finished" in capsys.readouterr().err


def test_a_damaged_one_is_set_aside_and_the_file_named(arm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (arm / "checkpoint-10" / "global_step" / "shard.pt").unlink()
    (arm / "checkpoint-9" / "optimizer.pt").write_bytes(b"")
    assert checkpoints.newest(arm) == arm / "checkpoint-2"
    assert {p.name for p in arm.iterdir()} >= {"damaged-checkpoint-10", "damaged-checkpoint-9"}
    printed = capsys.readouterr().err
    assert "global_step/shard.pt is damaged" in printed and "optimizer.pt is damaged" in printed


def test_a_torn_manifest_counts_as_unfinished(arm: Path) -> None:
    torn = arm / "checkpoint-10" / manifest.MANIFEST
    torn.write_text(torn.read_text()[:-30])
    assert checkpoints.newest(arm) == arm / "checkpoint-9"


def test_no_pickled_arguments_stay_in_a_checkpoint(tmp_path: Path) -> None:
    checkpoint = make(tmp_path, 1)
    (checkpoint / "training_args.bin").write_bytes(b"a pickle")
    manifest.write(checkpoint)
    assert not (checkpoint / "training_args.bin").exists()
    assert "training_args.bin" not in json.loads((checkpoint / manifest.MANIFEST).read_text())


@settings(max_examples=40, deadline=None)
@given(name=st.sampled_from(sorted(FILES)), at=st.floats(0, 1), how=st.sampled_from(["cut", "flip", "grow"]))
def test_no_change_of_a_byte_goes_unnoticed(
    tmp_path_factory: pytest.TempPathFactory, name: str, at: float, how: str
) -> None:
    file = make(tmp_path_factory.mktemp("one"), 1) / name
    content = bytearray(file.read_bytes())
    place = min(len(content) - 1, int(at * len(content)))
    if how == "flip":
        content[place] ^= 1
    file.write_bytes(content[:place] if how == "cut" else content + b"x" if how == "grow" else content)
    assert manifest.problem(file.parent) == name
