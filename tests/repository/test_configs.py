"""Every YAML is read by the classes that will read it; a new file is tested for free."""

from pathlib import Path

import pytest
import yaml

from conftest import RECIPES, ROOT
from medsft import arguments
from medsft.config import parse

CONFIGS = sorted(RECIPES.glob("configs/*/*.yaml"))
ACCELERATE = sorted(ROOT.glob("accelerate_configs/*.yaml"))
STAGES = {
    "data": arguments.DataArguments,
    "plan": arguments.PlanArguments,
    "generate": arguments.GenerateArguments,
    "score": arguments.ScoreArguments,
    "report": arguments.ReportArguments,
    "review": arguments.ReviewArguments,
    "forgetting": arguments.ForgettingArguments,
}


PAIR = ("paper", "sound")
FAULTS = {
    "end_of_turn_loss",
    "double_bos",
    "truncate_answers",
    "max_length",
    "assistant_only_loss",
    "pad_to_multiple_of",
}


def study_of(path: Path) -> str:
    """The study's own preset of a model and its sound counterpart are compared with each other and nothing else."""
    apart = path.stem.removeprefix("data_") in PAIR and path.parent.name != "paper"
    return f"runs/{path.parent.name}{'_paper' if apart else ''}"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_recipe_parses(path: Path) -> None:
    stage = STAGES.get(path.stem.removesuffix("_paper"))
    if stage is not None:
        (args,) = parse([stage], argv=["--config", str(path)])
        assert args.study_dir == study_of(path)
        return
    from trl import ModelConfig, SFTConfig

    on_cpu = ["--use_cpu", "true"]  # a GPU's recipe is parsed without one
    study, config, _ = parse([arguments.StudyArguments, SFTConfig, ModelConfig], argv=["--config", str(path), *on_cpu])
    assert study.study_dir == study_of(path)
    assert config.assistant_only_loss == study.end_of_turn_loss == (path.stem != "paper")
    assert config.report_to in ("none", []) or config.report_to == ["none"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_recipe_opens_with_what_it_needs_and_how_to_launch_it(path: Path) -> None:
    head = path.read_text()
    for word in ("# What:", "# Needs:", "# Launch:", "# Override"):
        assert word in head
    assert str(path.relative_to(ROOT)) in head or "accelerate launch recipes/sft_" in head


def test_the_arms_of_a_study_differ_only_where_they_must() -> None:
    """Same rows, budget and seed for every arm, or the comparison is not one."""
    fair = ("max_length", "max_train_rows", "num_train_epochs", "seed", "assistant_only_loss", "model_name_or_path")
    for folder in sorted({path.parent for path in CONFIGS}):
        recipes = [p for p in folder.glob("*.yaml") if p.stem.removesuffix("_paper") not in STAGES]
        arms = [yaml.safe_load(p.read_text()) for p in recipes if p.stem not in PAIR or folder.name == "paper"]
        arms = [arm for arm in arms if arm["arm"] != "paper"]
        for key in fair:
            assert len({str(arm.get(key)) for arm in arms}) == 1, f"{folder.name}: {key}"
        rows = {a.get("rows_per_step", a["per_device_train_batch_size"]) for a in arms}
        assert len(rows) == 1, folder.name


def test_full_fine_tuning_starts_at_a_tenth_of_loras_rate() -> None:
    for folder in sorted({path.parent for path in CONFIGS if (path.parent / "lora.yaml").is_file()}):
        lora = yaml.safe_load((folder / "lora.yaml").read_text())["learning_rate"]
        for path in folder.glob("full*.yaml"):
            assert yaml.safe_load(path.read_text())["learning_rate"] == pytest.approx(lora / 10), path


@pytest.mark.parametrize(
    ("folder", "also"), [("paper", set()), ("mistral_7b", {"chat_template_path", "bnb_4bit_compute_dtype"})]
)
def test_the_pair_of_presets_differs_in_the_faults_of_the_study_only(folder: str, also: set[str]) -> None:
    paper, sound = (yaml.safe_load((RECIPES / "configs" / folder / f"{name}.yaml").read_text()) for name in PAIR)
    assert {key for key in {*paper, *sound} if paper.get(key) != sound.get(key)} == FAULTS | {"arm"} | also


def test_the_scaled_preset_is_a_fifteenth_of_the_original() -> None:
    paper = yaml.safe_load((RECIPES / "configs/paper/paper.yaml").read_text())
    original = yaml.safe_load((RECIPES / "configs/mistral_7b/paper.yaml").read_text())
    scaled = {"max_length": 512, "pad_to_multiple_of": 512}
    assert {key: original[key] for key in FAULTS} == {key: paper[key] for key in FAULTS} | scaled
    assert {key: paper[key] for key in ("max_steps", "warmup_steps")} == {
        "max_steps": 450 // 15,
        "warmup_steps": 100 // 15,
    }
    assert (original["max_steps"], original["warmup_steps"]) == (450, 100)
    same = ("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules", "learning_rate", "lr_scheduler_type")
    assert all(original[key] == paper[key] for key in (*same, "weight_decay", "use_bnb_nested_quant", "seed"))


@pytest.mark.parametrize("path", ACCELERATE, ids=lambda p: p.stem)
def test_accelerate_reads_its_config(path: Path) -> None:
    from accelerate.commands.config.config_args import ClusterConfig

    config = ClusterConfig.from_yaml_file(yaml_file=str(path))
    assert config.num_processes >= 1
    text = path.read_text()
    assert all(word in text for word in ("# What:", "# Needs:", "# Launch:", "# Override"))
    deepspeed = config.deepspeed_config or {}
    # named in two places the values disagree, and DeepSpeed stops
    assert not {"gradient_accumulation_steps", "gradient_clipping"} & set(deepspeed)
    assert "c10d" not in config.rdzv_backend


def test_the_plan_names_accelerate_configs_that_exist() -> None:
    from medsft.memory.strategies import STRATEGIES

    named = {method.config for method in STRATEGIES.values() if method.config} | {"cpu.yaml", "single_gpu.yaml"}
    assert named <= {path.name for path in ACCELERATE}
