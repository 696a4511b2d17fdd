"""The folder of an arm: new, continued, done, of another run, or in use."""

import json
from pathlib import Path

import pytest

from medsft.arguments import StudyArguments
from medsft.errors import UserError
from medsft.training.run_folder import ArmFolder, open_arm, stamp

SETTINGS = {"arm": "lora", "learning_rate": 1e-4, "host_floor_gb": 0.5}


@pytest.fixture
def study(tmp_path: Path) -> StudyArguments:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "data_report.json").write_text(json.dumps({"fingerprint": "abc"}))
    return StudyArguments(study_dir=str(tmp_path), arm="lora")


def opened(study: StudyArguments, settings: dict[str, object], rows: int = 16, is_main: bool = True) -> ArmFolder:
    """As a run does that passes all of its checks."""
    arm = open_arm(study, settings, rows, is_main)
    stamp(arm)
    return arm


def release(arm: ArmFolder) -> None:
    assert arm.lock is not None
    arm.lock.release()


def test_an_interrupted_run_is_continued_and_a_finished_one_is_done(study: StudyArguments) -> None:
    first = opened(study, SETTINGS)
    assert not first.done
    assert (first.folder / "config.yaml").is_file()
    release(first)
    again = opened(study, SETTINGS | {"host_floor_gb": 2.0})  # decides nothing about the result
    assert again.fingerprint == first.fingerprint
    release(again)
    (first.folder / "train.json").write_text(json.dumps({"fingerprint": first.fingerprint}))
    assert opened(study, SETTINGS).done


def test_a_folder_of_another_run_is_refused_with_the_settings_that_differ(study: StudyArguments) -> None:
    release(opened(study, SETTINGS))
    with pytest.raises(UserError, match=r"other settings \(learning_rate\); choose another --arm"):
        opened(study, SETTINGS | {"learning_rate": 2e-4})
    (Path(study.study_dir) / "data" / "data_report.json").write_text(json.dumps({"fingerprint": "def"}))
    with pytest.raises(UserError, match="other data, package versions or number of processes"):
        opened(study, SETTINGS)


@pytest.mark.parametrize(
    "remedy",
    [
        {"save_total_limit": 1},
        {"save_strategy": "no"},
        {"save_steps": 500},
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 8},
        {"activation_checkpointing": True},
        {"auto_batch": True},
    ],
)
def test_what_messages_tell_to_change_continues_the_run(study: StudyArguments, remedy: dict[str, object]) -> None:
    settings = SETTINGS | {"per_device_train_batch_size": 16, "save_steps": 50}
    first = opened(study, settings)
    release(first)
    again = opened(study, settings | remedy)
    assert again.fingerprint == first.fingerprint
    release(again)


def test_what_changes_the_result_is_another_run(study: StudyArguments) -> None:
    settings = SETTINGS | {"load_best_model_at_end": True, "save_steps": 50, "gradient_accumulation_steps": 4}
    release(opened(study, settings))
    with pytest.raises(UserError, match=r"other settings \(save_steps\)"):  # the best is one of those that are saved
        opened(study, settings | {"save_steps": 100})
    with pytest.raises(UserError, match=r"other settings \(gradient_accumulation_steps\)"):
        opened(study, settings | {"gradient_accumulation_steps": 8}, rows=32)
    with pytest.raises(UserError, match=r"other data, package versions or number of processes"):
        opened(study, settings, rows=32)


def test_a_refused_run_leaves_no_stamp(study: StudyArguments) -> None:
    refused = open_arm(study, SETTINGS | {"max_length": 64}, 16, is_main=True)
    release(refused)
    release(opened(study, SETTINGS | {"max_length": 512}))


def test_one_run_at_a_time_writes_to_a_folder(study: StudyArguments) -> None:
    first = opened(study, SETTINGS)
    with pytest.raises(UserError, match="another run is training in it now"):
        opened(study, SETTINGS)
    assert opened(study, SETTINGS, is_main=False).lock is None  # the other processes of the same run
    release(first)
