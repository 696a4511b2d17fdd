"""Options that no arm, no LoRA and no full fine-tuning may have."""

import pytest

from conftest import RECIPES
from medsft.config import command_line
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
        ("full", ("--use_peft", "true"), "belong to sft_lora.py"),
    ],
)
def test_what_an_arm_may_not_have_is_refused(recipe: str, flags: tuple[str, ...], expected: str) -> None:
    argv = ["--config", str(CONFIGS / "demo" / f"{recipe}.yaml"), "--bf16", "false", *flags]
    check = option_checks.check_full if recipe == "full" else option_checks.check_lora
    with pytest.raises(UserError, match=expected):
        check(*sft.parse_recipe(command_line(given=argv)))


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
