"""The folder of an arm: new, continued, done, of another run, or in use."""

import json
from pathlib import Path

import pytest

from medsft.arguments import StudyArguments
from medsft.errors import UserError
from medsft.training.run_folder import ArmFolder, open_arm

SETTINGS = {"arm": "lora", "learning_rate": 1e-4, "host_floor_gb": 0.5}


@pytest.fixture
def study(tmp_path: Path) -> StudyArguments:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "data_report.json").write_text(json.dumps({"fingerprint": "abc"}))
    return StudyArguments(study_dir=str(tmp_path), arm="lora")


def release(arm: ArmFolder) -> None:
    assert arm.lock is not None
    arm.lock.release()


def test_an_interrupted_run_is_continued_and_a_finished_one_is_done(study: StudyArguments) -> None:
    first = open_arm(study, SETTINGS, is_main=True)
    assert not first.done
    assert (first.folder / "config.yaml").is_file()
    release(first)
    again = open_arm(study, SETTINGS | {"host_floor_gb": 2.0}, is_main=True)  # decides nothing about the result
    assert again.fingerprint == first.fingerprint
    release(again)
    (first.folder / "train.json").write_text(json.dumps({"fingerprint": first.fingerprint}))
    assert open_arm(study, SETTINGS, is_main=True).done


def test_a_folder_of_another_run_is_refused_with_the_settings_that_differ(study: StudyArguments) -> None:
    release(open_arm(study, SETTINGS, is_main=True))
    with pytest.raises(UserError, match=r"other settings \(learning_rate\); choose another --arm"):
        open_arm(study, SETTINGS | {"learning_rate": 2e-4}, is_main=True)
    (Path(study.study_dir) / "data" / "data_report.json").write_text(json.dumps({"fingerprint": "def"}))
    with pytest.raises(UserError, match="other data or package versions"):
        open_arm(study, SETTINGS, is_main=True)


def test_one_run_at_a_time_writes_to_a_folder(study: StudyArguments) -> None:
    first = open_arm(study, SETTINGS, is_main=True)
    with pytest.raises(UserError, match="another run is training in it now"):
        open_arm(study, SETTINGS, is_main=True)
    assert open_arm(study, SETTINGS, is_main=False).lock is None  # the other processes of the same run
    release(first)
