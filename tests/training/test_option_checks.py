"""Options that no arm, no LoRA and no full fine-tuning may have."""

import re
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from conftest import RECIPES
from medsft.config import command_line, read_config
from medsft.errors import UserError
from medsft.training import option_checks, saving, sft

CONFIGS = RECIPES / "configs"


@pytest.mark.parametrize(
    ("recipe", "flags", "expected"),
    [
        ("lora", ("--trust_remote_code", "true"), "trust_remote_code"),
        ("lora", ("--push_to_hub", "true"), "hub_private_repo"),
        ("lora", ("--dtype", "auto"), "'auto' would differ between arms"),
        ("lora", ("--early_stopping_patience", "2", "--load_best_model_at_end", "false"), "load_best_model_at_end"),
        ("lora", ("--report_to", "nowhere"), "not installed"),
        ("lora", ("--use_peft", "false"), "sft_lora.py trains adapters"),
        ("lora", ("--adapter_dtype", "float16"), "use float32 or bfloat16"),
        ("lora", ("--lora_target_modules", "lm_head"), "lora_modules_to_save"),
        ("lora", ("--lora_target_modules", "q_proj", "wq"), "no linear layer 'wq'; it has down_proj"),
        ("lora", ("--fp16", "true"), "a processor does not train in float16"),
        ("lora", ("--attn_implementation", "flash_attention_2"), "use --attn_implementation sdpa"),
        ("lora", ("--max_length", "10000"), "has 8192 positions"),
        ("full", ("--use_peft", "true"), "belong to sft_lora.py"),
    ],
)
def test_what_an_arm_may_not_have_is_refused(recipe: str, flags: tuple[str, ...], expected: str) -> None:
    argv = ["--config", str(CONFIGS / "demo" / f"{recipe}.yaml"), "--bf16", "false", *flags]
    check = option_checks.check_full if recipe == "full" else option_checks.check_lora
    with pytest.raises(UserError, match=expected):
        check(*sft.parse_recipe(command_line(given=argv)))


def test_one_lora_target_is_a_name_and_no_pattern() -> None:
    recipe = ["--config", str(CONFIGS / "demo" / "lora.yaml"), "--bf16", "false"]
    for asked, kept in ((["q_proj"], ["q_proj"]), ([".*q_proj"], ".*q_proj"), (["all-linear"], "all-linear")):
        parsed = sft.parse_recipe(command_line(given=[*recipe, "--lora_target_modules", *asked]))
        option_checks.check_lora(*parsed)
        assert parsed[2].lora_target_modules == kept


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"gradient_accumulation_steps": 8}, "gradient_accumulation_steps is 8 .* and .* is 2 in the recipe"),
        ({"gradient_clipping": 0.5}, "gradient_clipping is 0.5 .* max_grad_norm is 1.0"),
        ({"train_micro_batch_size_per_gpu": 3}, "set it to auto"),
        ({"train_batch_size": 5}, "rows per step is 4"),
        ({"gradient_accumulation_steps": "auto", "gradient_clipping": 1.0, "train_batch_size": 4}, None),
    ],
)
def test_deepspeeds_settings_follow_the_recipe(settings: dict[str, object], expected: str | None) -> None:
    recipe = ["--config", str(CONFIGS / "demo" / "lora.yaml"), "--bf16", "false", "--gradient_accumulation_steps", "2"]
    _, config, _ = sft.parse_recipe(command_line(given=recipe))
    config.deepspeed_plugin = SimpleNamespace(deepspeed_config=settings)
    with pytest.raises(UserError, match=expected) if expected else nullcontext():
        option_checks.check_deepspeed(config)


def test_an_unquoted_no_is_no(tmp_path: Path) -> None:
    text = (CONFIGS / "demo" / "lora.yaml").read_text()
    for key in ("eval_strategy", "save_strategy", "report_to"):
        text = re.sub(rf"^{key}: .*$", f"{key}: no", text, flags=re.MULTILINE)
    (tmp_path / "lora.yaml").write_text(text)
    argv = command_line(given=["--config", str(tmp_path / "lora.yaml"), "--bf16", "false"])
    _, config, _ = sft.parse_recipe(argv)
    assert (config.eval_strategy, config.save_strategy, config.report_to) == ("no", "no", [])
    assert sft.parse_recipe([*argv, "--eval_strategy", "steps"])[1].eval_strategy == "steps"  # a flag wins


@pytest.mark.parametrize("recipe", ["lora", "qlora", "full"])
def test_the_demos_recipes_pass_and_name_their_strategy(recipe: str) -> None:
    argv = ["--config", str(CONFIGS / "demo" / f"{recipe}.yaml"), "--bf16", "false", "--dtype", "float32"]
    study, config, model_args = sft.parse_recipe(command_line(given=argv))
    check = option_checks.check_full if recipe == "full" else option_checks.check_lora
    check(study, config, model_args)
    assert study.strategy.startswith(recipe)


def test_a_saved_model_stops_where_the_template_ends_a_turn() -> None:
    from medsft.models import embedded, loading

    tokenizer = loading.load_tokenizer(embedded.SMOLLM2)
    config = saving.generation_config(tokenizer)
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") in config.eos_token_id
    assert config.pad_token_id not in config.eos_token_id
    assert not config.do_sample


def test_a_deepspeed_file_belongs_into_accelerates(tmp_path: Path) -> None:
    """transformers fills its 'auto' before the rows of a step are shared out."""
    recipe = ["--config", str(CONFIGS / "demo" / "full.yaml"), "--bf16", "false"]
    _, config, _ = sft.parse_recipe(command_line(given=recipe))
    config.deepspeed = str(tmp_path / "ds_auto.json")
    with pytest.raises(UserError, match="name the file as deepspeed_config_file"):
        option_checks.check_deepspeed(config)


STEPS = [
    path
    for path in sorted(CONFIGS.glob("*/*.yaml"))
    if {"learning_rate", "per_device_train_batch_size"} <= {*read_config(["--config", str(path)])}
]


@pytest.mark.parametrize("path", STEPS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_recipe_names_the_rows_of_a_step(path: Path) -> None:
    """Else every further GPU makes its steps larger, and its arm another one."""
    assert "rows_per_step" in read_config(["--config", str(path)])
