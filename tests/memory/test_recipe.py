"""Training recipes as the memory plan reads them, the names of their strategies, and how these are launched."""

import re
import shlex
from types import SimpleNamespace

import pytest
import yaml
from accelerate.commands.launch import launch_command_parser
from accelerate.utils.launch import prepare_deepspeed_cmd_env

from conftest import ROOT
from medsft.config import CONFIGS
from medsft.errors import UserError
from medsft.hardware import specs
from medsft.memory import calibration
from medsft.memory.launch_command import launch_line
from medsft.memory.planner import OVER_MACHINES
from medsft.memory.recipe import read_recipe
from medsft.memory.step_config import StepConfig, of_recipe, shared
from medsft.memory.strategies import GPU_ONLY, ORDER, ORDER_ON_CPU, STRATEGIES, applies, recipe_of

RECIPES = sorted(p for p in CONFIGS.glob("*/*.yaml") if p.stem.startswith(("lora", "qlora", "full")))


def test_every_strategy_has_a_rank_and_a_recipe():
    assert set(STRATEGIES) == set(ORDER) == set(ORDER_ON_CPU)
    for name in STRATEGIES:
        recipe = recipe_of(CONFIGS / "mistral_7b", name)
        assert recipe is not None and read_recipe(["--config", str(recipe)]).strategy == name
        assert applies(name, 2) == (name != "full_8bit_in_backward")  # which works in one process
        assert applies(name, 0) == (name not in GPU_ONLY)
    assert recipe_of(CONFIGS / "demo", "full_zero2_offload") is None


@pytest.mark.parametrize("folder", sorted(p for p in CONFIGS.iterdir() if p.is_dir()), ids=lambda p: p.name)
def test_every_recipe_names_its_strategy_and_no_two_of_a_folder_train_fully_by_the_same_one(folder):
    named = [yaml.safe_load(path.read_text()) for path in folder.glob("*.yaml")]
    strategies = [values["strategy"] for values in named if "learning_rate" in values]
    assert set(strategies) <= set(STRATEGIES)
    full = [name for name in strategies if name.startswith("full")]
    assert len(full) == len(set(full))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_shipped_recipes_are_read(path):
    recipe = read_recipe(["--config", str(path)])
    assert recipe.strategy in STRATEGIES and recipe.strategy.startswith(path.stem.split("_")[0])
    assert recipe.options["max_length"] > 0 and recipe.options["model_name_or_path"]
    StepConfig(**recipe.step)
    assert recipe.on_cpu == bool(yaml.safe_load(path.read_text()).get("use_cpu"))
    assert "dtype" not in shared(recipe.step) and shared(recipe.step)["lora_r"] == recipe.step["lora_r"]


def test_a_plan_is_no_recipe_and_a_misspelt_key_is_named(tmp_path):
    assert read_recipe(["--config", str(CONFIGS / "demo" / "plan.yaml")]) is None and read_recipe([]) is None
    file = tmp_path / "mine.yaml"
    file.write_text("arm: mine\nlerning_rate: 1.0e-4\n")
    with pytest.raises(UserError, match="lerning_rate.*did you mean 'learning_rate'"):
        read_recipe(["--config", str(file)])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("use_peft: true", "lora"),
        ("use_peft: true\nload_in_4bit: true", "strategy lora does not go with load_in_4bit: true"),
        ("use_peft: true\nload_in_4bit: true\nstrategy: qlora", "qlora"),
        ("strategy: full_adafactor\noptim: adafactor\ndtype: bfloat16", "full_adafactor"),
        ("optim: adafactor\ndtype: bfloat16", "strategy full does not go with optim: adafactor"),
        ("strategy: full_8bit\noptim: adamw_torch", "strategy full_8bit does not go with optim: adamw_torch"),
        ("optim: adamw_torch\ndtype: float32", "strategy full does not go with dtype: float32 on a GPU"),
        ("optim: adamw_torch\ndtype: float32\nuse_cpu: true", "full"),
        ("strategy: full_fp32\ndtype: bfloat16", "strategy full_fp32 does not go with dtype: bfloat16"),
        ("strategy: full_zero3_offload_bf16", "does not go with bf16_states: false"),
        ("strategy: full_ofload\nuse_peft: false", "strategy 'full_ofload': did you mean"),
    ],
)
def test_a_recipe_is_of_the_strategy_it_names_and_a_contradiction_is_refused(tmp_path, text, found):
    file = tmp_path / "mine.yaml"
    file.write_text(f"arm: mine\n{text}\n")
    if found in STRATEGIES:
        assert read_recipe(["--config", str(file)]).strategy == found
    else:
        with pytest.raises(UserError, match=re.escape(found)):
            read_recipe(["--config", str(file)])


def test_packing_and_flash_attention_decide_the_mask():
    values = read_recipe(["--config", str(CONFIGS / "mistral_7b" / "lora.yaml")]).step
    assert values["padded"] and not values["packing"] and values["checkpointing"]
    names = {"dtype": "bfloat16", "optim": "sgd", "bf16": True, "lora_r": 4, "lora_dropout": 0.0, "packing": True}
    names |= dict.fromkeys(("padding_free", "activation_checkpointing", "gradient_checkpointing"), False)
    names |= dict.fromkeys(("activation_checkpointing_kwargs", "gradient_checkpointing_kwargs"))
    names |= {"lora_target_parameters": None, "lora_modules_to_save": None, "use_dora": False}
    names |= {"lora_target_modules": None, "use_bnb_nested_quant": False, "attn_implementation": "sdpa"}
    names |= {"adapter_dtype": "float32", "rows_per_step": 16, "per_device_train_batch_size": 4}
    names |= {"gradient_accumulation_steps": 1, "flash_adamw": False}
    packed = of_recipe(*[SimpleNamespace(**names)] * 3)
    assert packed["accumulates"]
    assert not of_recipe(*[SimpleNamespace(**names, world_size=4)] * 3)["accumulates"]  # a micro-batch a process
    assert packed["packing"] and not packed["padded"] and not packed["checkpointing"]
    names["attn_implementation"] = "flash_attention_2"  # no mask at all
    flash = of_recipe(*[SimpleNamespace(**names)] * 3)
    assert not flash["packing"] and not flash["padded"] and flash["attention"] == "sdpa"


@pytest.mark.parametrize("name", [name for name, strategy in STRATEGIES.items() if strategy.config])
def test_each_machine_starts_its_own_processes(name: str) -> None:
    """DeepSpeed's own launcher would connect to the machines of a hostfile, which there is not."""
    alone, two = (specs.described(specs.machine("."), "h100", 8, nodes=nodes) for nodes in (1, 2))
    config = STRATEGIES[name].config
    assert "multinode" not in launch_line(name, config, CONFIGS / "mistral_7b", alone)
    config = OVER_MACHINES.get(config, config)
    words = shlex.split(launch_line(name, config, CONFIGS / "mistral_7b", two).replace("RANK", "0"))[2:]
    args = launch_command_parser().parse_args(words)
    settings = yaml.safe_load((ROOT / "accelerate_configs" / config).read_text())
    told = settings.get("deepspeed_config", {}).get("deepspeed_multinode_launcher")
    by_deepspeed = settings["distributed_type"] == "DEEPSPEED"
    assert ("--deepspeed_multinode_launcher" in words) == (by_deepspeed and told is None)
    if by_deepspeed:
        args.deepspeed_multinode_launcher = args.deepspeed_multinode_launcher or told
        values = vars(args) | {"mixed_precision": "bf16", "num_cpu_threads_per_process": 1}
        values["deepspeed_fields_from_accelerate_config"] = ""
        command, _ = prepare_deepspeed_cmd_env(SimpleNamespace(**values))
        assert command is None  # torch's launcher, not ['deepspeed', '--hostfile', 'None', ...]


def test_a_short_run_calibrates(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSFT_CACHE", str(tmp_path))
    laptop = specs.described(specs.machine("."), "none")
    record = {
        "distributed": "NO",
        "processes": 1,
        "predicted_memory": {"traced_bytes": 1000, "process_bytes": 300},
        "peak_memory": {"device_bytes": 0, "reserved_bytes": 0, "host_bytes": 1550},
        "trainable_parameters": 5,
        "total_parameters": 1000,
        "settings": {"optim": "adamw_torch"},
    }
    found = calibration.from_record(record, laptop)
    assert found == calibration.Corrections(0, 0.25, 300) == calibration.of_machine(laptop)
    for change in ({"distributed": "DEEPSPEED"}, {"processes": 2}, {"predicted_memory": {}}):
        with pytest.raises(UserError):
            calibration.from_record(record | change, laptop)
    gpu = specs.described(laptop, "l4")
    with pytest.raises(UserError, match="optim is not paged"):  # its states are managed memory, not context
        calibration.from_record(record | {"settings": {"optim": "paged_adamw_8bit"}}, gpu)
    peak = {"device_bytes": 1300, "reserved_bytes": 1100, "host_bytes": 400}
    full = calibration.from_record(record | {"trainable_parameters": 1000, "peak_memory": peak}, gpu)
    assert full == calibration.Corrections(200, 0.1, 400) == calibration.of_machine(gpu, trains_all=True)
    assert calibration.of_machine(gpu) == calibration.Corrections(200, calibration.WITH_GPU.slack, 400)
