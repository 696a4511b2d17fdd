"""A learning-rate sweep on the tiny model: what is tried, what is chosen, and that nothing is done twice."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from conftest import RECIPES, run_script
from medsft.arguments import SweepArguments
from medsft.config import read_config
from medsft.errors import UserError
from medsft.files import write_json
from medsft.hardware.specs import described, machine
from medsft.training.tuning import lr_sweep

DEMO = RECIPES / "configs" / "demo"


def tried(rate: float, lowest: float | None, step: int | None = 4, steps: int = 4) -> dict:
    return {
        "learning_rate": rate,
        "steps": steps,
        "start": 2.0,
        "lowest": lowest,
        "step": step,
        "failed": None if lowest else "diverged",
    }


@pytest.mark.parametrize(
    ("runs", "chosen", "note"),
    [
        ([tried(1, 1.5), tried(3, 1.2), tried(9, 1.4)], 3, ""),
        ([tried(1, 1.5), tried(3, 1.2), tried(9, None)], 3, ""),
        ([tried(1, 1.1), tried(3, 1.2)], 1, "lowest rate tried"),
        ([tried(1, 1.3), tried(3, 1.2)], 3, "highest rate tried"),
        ([tried(1, 2.0, 0), tried(3, 2.0, 0), tried(9, 2.1, 0)], 1, "no rate made the dev loss fall"),
        ([tried(1, None)], None, "no rate could be trained"),
        # of the longest runs, whatever a shorter one had
        (
            [tried(1, 1.1), tried(3, 1.2), tried(3, 1.0, 8, 8), tried(9, 1.3), tried(9, 0.9, 8, 8), tried(27, 1.5)],
            9,
            "",
        ),
    ],
)
def test_the_lowest_dev_loss_is_chosen_and_doubts_are_said(runs: list, chosen: float | None, note: str) -> None:
    found = lr_sweep.choose(runs)
    assert found["chosen"] == chosen
    assert note in found["note"] if note else not found["note"]


@pytest.mark.parametrize(
    ("runs", "rate"),
    [
        ([tried(1, 1.5), tried(3, 1.2), tried(9, 1.4)], None),
        ([tried(1, 1.5), tried(3, 1.4), tried(9, 1.2)], 27),
        ([tried(1, 1.1), tried(4, 1.2)], 0.25),
        ([tried(1, 1.3), tried(3, 1.2), tried(9, None)], None),  # what diverged is an edge already
        ([tried(1, 2.0, 0), tried(3, 2.0, 0)], None),
        ([tried(1, 1.0)], None),
    ],
)
def test_the_grid_grows_while_the_best_is_at_its_edge(runs: list, rate: float | None) -> None:
    assert lr_sweep.beyond(runs) == rate


def test_rates_are_multiples_of_the_recipes_own() -> None:
    assert lr_sweep.rates(DEMO / "lora.yaml", [3, 0.33, 1.0]) == [9.9e-4, 3e-3, 9e-3]
    assert lr_sweep.rates(DEMO / "full.yaml", [1]) == [3e-4]


def test_a_recipe_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(UserError, match=r"dora.yaml: no such recipe; in .*demo there is .*qlora"):
        lr_sweep.recipes(DEMO, ["dora"], DEMO)


def test_the_full_fine_tuning_that_will_be_trained_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stems(folder: Path) -> list[str]:
        return [path.stem for path in lr_sweep.recipes(folder, [], tmp_path)]

    mistral = RECIPES / "configs" / "mistral_7b"
    assert stems(DEMO) == ["lora", "qlora", "full"]
    assert stems(mistral) == ["lora", "qlora", "full_8bit"]  # nothing planned yet
    row = {"name": "full_zero3_offload", "fits": True, "accelerate_config": "zero3_offload.yaml"}
    row |= {"device_bytes": {}, "host_bytes": 0, "disk_bytes": 0}
    write_json(tmp_path / "plan.json", {"hardware": {"gpus": 1}, "strategies": [row]})
    monkeypatch.setattr(lr_sweep.launch_command, "missing_tools", list)
    assert stems(mistral) == ["lora", "qlora", "full_offload"]


def test_an_offloaded_trial_is_launched_with_its_accelerate_config(monkeypatch: pytest.MonkeyPatch) -> None:
    there = described(machine("."), "l40s", 2, "512GB", "4TB")
    monkeypatch.delenv("LOCAL_RANK", raising=False)

    def words(recipe: str) -> list[str]:
        settings = read_config(["--config", str(RECIPES / "configs" / "mistral_7b" / f"{recipe}.yaml")])
        return lr_sweep.launched_by(settings, there)[1:]

    offloaded = words("full_offload")
    assert offloaded[:3] == ["launch", "--config_file", "accelerate_configs/zero3_offload.yaml"]
    assert offloaded[offloaded.index("--num_processes") + 1] == "2"
    assert words("lora") == ["launch"]


def test_an_arm_without_a_chosen_rate_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--tuned", "true", "--study_dir", str(tmp_path), "--arm", "full_zero2"]
    assert lr_sweep.tuned(words) == []
    assert "not tuned: the study's sweep chose no rate for full_zero2" in capsys.readouterr().out


@pytest.mark.slow
def test_a_sweep_records_every_rate_and_the_chosen_one(tiny_study: Path, tiny_model: Path, tmp_path: Path) -> None:
    study, recipes = tmp_path / "study", tmp_path / "recipes"
    shutil.copytree(tiny_study / "data", study / "data")
    recipes.mkdir()
    recipe = yaml.safe_load((DEMO / "full.yaml").read_text()) | {"model_name_or_path": str(tiny_model)}
    recipe |= {"learning_rate": 1e-2, "max_train_rows": 24, "max_dev_rows": 4, "max_grad_norm": 0, "host_reserve_gb": 0}
    (recipes / "full.yaml").write_text(yaml.safe_dump(recipe))
    flags = (
        "--config_dir",
        recipes,
        "--study_dir",
        study,
        "--steps",
        6,
        "--first_steps",
        4,
        "--widenings",
        0,
        "--factors",
        "0.01",
        "1",
        "1e30",
    )
    done = run_script("sweep.py", *flags)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((study / "sweep" / "sweep.json").read_text())["arms"]["full"]
    runs = found["runs"]
    assert [(one["learning_rate"], one["steps"]) for one in runs] == [
        (1e-4, 4),
        (1e-4, 6),
        (1e-2, 4),
        (1e-2, 6),
        (1e28, 4),
    ]
    assert [one["failed"] for one in runs] == [None] * 4 + ["diverged"]  # what diverged goes no further
    assert found["chosen"] == 1e-2
    assert [step for step, _ in runs[1]["dev_losses"]] == [0, 3, 6]
    assert runs[3]["lowest"] < runs[1]["lowest"] < runs[1]["start"]
    # the loss before the first step is the same at every rate, and measured once
    history = json.loads((study / "sweep" / "full_0.01_6_steps" / "train.json").read_text())["history"]
    assert [row["step"] for row in history if "eval_loss" in row] == [3, 6]
    assert {one["start"] for one in runs[:4]} == {runs[0]["start"]}
    assert "chosen" in done.stdout
    assert not list((study / "sweep").rglob("*.safetensors"))  # only the losses are wanted
    assert lr_sweep.chosen_rate(study, "full") == 1e-2

    again = run_script("sweep.py", *flags[:-3], "0.01", "1")
    assert again.returncode == 0
    assert again.stdout.count("already done") == 4


def test_a_recipe_that_stops_early_can_be_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial saves no weights, which early stopping and the choice of a checkpoint need: it is parsed here."""
    from medsft.training import option_checks, sft

    recipe = tmp_path / "lora.yaml"
    text = (RECIPES / "configs" / "demo" / "lora.yaml").read_text(encoding="utf-8")
    best = "early_stopping_patience: 2\ngenerate_rows: 4\nchoose_by: rougeL\nload_best_model_at_end: true\n"
    recipe.write_text(text.replace("bf16: true", "bf16: false") + best, encoding="utf-8")
    asked: list[list[str]] = []
    monkeypatch.setattr(lr_sweep, "_run", lambda script, flags, settings: asked.append(flags) or (1, ""))
    with pytest.raises(UserError):
        lr_sweep.try_rate(recipe, tmp_path, 1e-4, 4, None, SweepArguments())
    option_checks.check_lora(*sft.parse_recipe(asked[0]))
