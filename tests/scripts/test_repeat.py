"""Arms trained again with other seeds, at the learning rate that the sweep chose."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import run_here, run_script
from medsft.files import read_json, write_json
from medsft.hardware.specs import described, machine
from medsft.training.tuning.lr_sweep import tuned
from training_runs import record, train

pytestmark = pytest.mark.slow


@pytest.fixture
def study(tiny_study: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_study / "data", tmp_path / "data")
    write_json(tmp_path / "sweep" / "sweep.json", {"arms": {"lora": {"chosen": 3e-4}, "full": {"chosen": None}}})
    return tmp_path


def test_an_arm_takes_the_rate_of_the_sweep_and_is_repeated_with_it(study: Path, tiny_model: Path) -> None:
    done = train(study, tiny_model, "lora", "lora", "--tuned", "true")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "chosen by the sweep: learning_rate 0.0003" in done.stdout
    assert record(study, "lora")["settings"]["learning_rate"] == 3e-4
    again = run_script("repeat.py", "--study_dir", study, "--seeds", 42, 7)
    assert again.returncode == 0, again.stderr[-2000:]
    assert not (study / "lora_seed42").exists()  # the arm itself
    repeated, first = record(study, "lora_seed7"), record(study, "lora")
    assert repeated["seed"] == 7 and repeated["settings"]["learning_rate"] == 3e-4
    assert repeated["comparable"] == first["comparable"] and repeated["history"] != first["history"]
    once_more = run_script("repeat.py", "--study_dir", study, "--seeds", 7)
    assert once_more.returncode == 0 and "already done" in once_more.stdout
    assert not (study / "lora_seed7_seed7").exists()


@pytest.mark.parametrize(
    ("words", "rate"),
    [
        (["--tuned", "true"], ["--learning_rate", "0.0003"]),
        (["--tuned", "true", "--arm", "lora_seed2"], ["--learning_rate", "0.0003"]),
        (["--tuned", "true", "--learning_rate", "1e-3"], []),
        (["--tuned", "true", "--learning_rate=1e-3"], []),
        (["--tuned", "true", "--arm", "full"], []),  # no rate could be trained
        (["--tuned", "true", "--arm", "qlora"], []),  # not swept
        ([], []),
    ],
)
def test_what_was_not_chosen_is_left_to_the_recipe(study: Path, words: list[str], rate: list[str]) -> None:
    assert tuned(["--study_dir", str(study), *words]) == rate


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--arms", "lora"), "arm 'lora' is not trained; trained arms: none; train one first, such as make lora"),
        (("--seeds", "-1"), "seeds [-1]"),
    ],
)
def test_what_cannot_be_repeated_is_refused(study: Path, options: tuple[str, ...], said: str) -> None:
    if "--seeds" in options:
        write_json(study / "lora" / "train.json", {"seed": 42})
    done = run_here("repeat.py", "--study_dir", study, *options)
    assert done.returncode == 2 and said in done.stderr.splitlines()[-1]


def test_an_offloaded_arm_is_launched_as_it_was(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from conftest import RECIPES

    monkeypatch.syspath_prepend(str(RECIPES))
    import repeat

    here = described(machine("."), "a100-80gb", 2, "300GB", "1TB")
    made = {"processes": 2, "settings": {"strategy": "full_zero3_offload"}}
    line = repeat.command(study, "full", 3, made, here)
    assert line[0] == str(Path(sys.executable).parent / "accelerate")
    assert "accelerate_configs/zero3_offload.yaml" in line and "--enable_cpu_affinity" in line
    assert line[-2:] == ["--arm", "full_seed3"]
    alone = {"processes": 1, "settings": {"use_peft": True}}
    line = repeat.command(study, "lora", 3, alone, here)  # beside a second GPU a plain process would be refused
    assert line[1:4] == ["launch", "--config_file", "accelerate_configs/single_gpu.yaml"]
    only = described(here, "a100-80gb", 1)
    assert repeat.command(study, "lora", 3, alone, only)[:2] == [sys.executable, str(RECIPES / "sft_lora.py")]
    one_of_two = {"processes": 1, "settings": {"strategy": "full_zero3_offload"}}
    assert "--num_processes" not in repeat.command(study, "full", 3, one_of_two, here)
    two = {"processes": 2, "settings": {"use_peft": True, "load_in_4bit": True, "strategy": "qlora"}}
    eight = described(here, "a100-80gb", 8)
    assert repeat.command(study, "qlora", 3, two, eight)[2:6] == [
        "--config_file",
        "accelerate_configs/multi_gpu.yaml",
        "--num_processes",
        "2",
    ]
    four = {"processes": 4, "settings": {"use_peft": True}}
    line = repeat.command(study, "lora", 3, four, replace(here, gpus=0))
    assert "accelerate_configs/multi_cpu.yaml" in line and line[line.index("--num_processes") + 1] == "4"
    assert read_json(study / "sweep" / "sweep.json")
