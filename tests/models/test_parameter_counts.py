"""Exact counts of a model's parameters, and of what adapters and NF4 touch."""

import pytest
from transformers import (
    AutoConfig,
    FalconH1Config,
    GPT2Config,
    GraniteMoeHybridConfig,
    JambaConfig,
    LlamaConfig,
    MixtralConfig,
    NemotronHConfig,
    Zamba2Config,
)
from transformers.models.t5 import T5Config

from medsft.errors import UserError
from medsft.models import parameter_counts
from medsft.models.meta import empty_model
from medsft.models.parameter_counts import count_lora, count_parameters, known_config, sizes_of

MISTRAL = "mistralai/Mistral-7B-Instruct-v0.2"
TINY = LlamaConfig(
    vocab_size=1000,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
)


@pytest.fixture(scope="module")
def mistral():
    return known_config(MISTRAL)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        (MISTRAL, 7_241_732_096),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 134_515_008),
        ("embedded/SmolLM2-135M-Instruct", 134_515_008),
        ("HuggingFaceTB/SmolLM2-360M-Instruct", 361_821_120),
        ("HuggingFaceTB/SmolLM2-1.7B-Instruct", 1_711_376_384),
        ("Qwen/Qwen3-8B", 8_190_735_360),
    ],
)
def test_parameters(name, parameters):
    assert count_parameters(known_config(name)) == parameters


def test_unknown_names_have_no_config():
    assert known_config("someone/else") is None and known_config("../medsft/x") is None


@pytest.mark.parametrize("r", [8, 16, 64])
def test_lora_parameters(mistral, r):
    seven = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    assert count_lora(mistral, r) == count_lora(mistral, r, seven) == 41_943_040 * r // 16


def test_lora_count_is_that_of_peft():
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = get_peft_model(
        AutoModelForCausalLM.from_config(TINY), LoraConfig(r=4, target_modules=["q_proj", "down_proj"])
    )
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert count_lora(TINY, 4, ["q_proj", "down_proj"]) == trainable


def test_packed_count_of_bitsandbytes(mistral):
    sizes = sizes_of(mistral)
    assert sizes.linear_parameters == 6_979_321_856
    assert sizes.linear_parameters // 2 + sizes.parameters - sizes.linear_parameters == 3_752_071_168


def test_absent_target_is_named(mistral):
    with pytest.raises(UserError, match="'qkv'"):
        count_lora(mistral, 8, ["q_proj", "qkv"])


@pytest.mark.parametrize(
    ("config", "parameters"),
    [  # experts are in tensors of their own, which neither NF4 nor adapters touch
        (MixtralConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                       num_key_value_heads=2, num_local_experts=4, vocab_size=100), 62_112),
        (GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=100, n_positions=64), 30_720),
    ],
    ids=["mixtral", "gpt2"],
)  # fmt: skip
def test_other_decoders_are_counted(config, parameters):
    assert count_parameters(config) == parameters
    assert count_lora(config, 8) > 0


SMALL = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "vocab_size": 100}
HYBRIDS = [
    FalconH1Config(**SMALL, num_hidden_layers=2, num_key_value_heads=2, mamba_d_ssm=64, mamba_n_heads=4),
    GraniteMoeHybridConfig(
        **SMALL, num_key_value_heads=2, layer_types=["mamba", "attention"], num_hidden_layers=2, mamba_n_heads=8
    ),
    NemotronHConfig(**SMALL, num_key_value_heads=2, layers_block_type=["mamba", "attention", "mlp"]),
]


@pytest.mark.parametrize("config", HYBRIDS, ids=lambda config: config.model_type)
def test_infinite_numbers_in_a_configuration_are_read(config, tmp_path, monkeypatch):
    counted = sum(p.numel() for p in empty_model(config, "float32").parameters())
    assert count_parameters(config) == counted
    config.save_pretrained(tmp_path)
    assert count_parameters(AutoConfig.from_pretrained(tmp_path)) == counted
    monkeypatch.setattr(parameter_counts, "CONFIGS", tmp_path)
    (tmp_path / "config.json").rename(parameter_counts.config_file("someone/hybrid"))
    kept = known_config("someone/hybrid")
    assert count_parameters(kept) == counted and kept.name_or_path == ""


def test_layers_of_several_sizes_and_shared_ones_are_told_from_the_rest():
    jamba = JambaConfig(**SMALL, num_hidden_layers=4, num_key_value_heads=2, num_experts=2, attn_layer_period=2,
                        expert_layer_period=2, attn_layer_offset=1, expert_layer_offset=1)  # fmt: skip
    zamba = Zamba2Config(**SMALL, num_hidden_layers=4, layers_block_type=["mamba", "hybrid"] * 2, num_mem_blocks=1)
    for config in (jamba, zamba):
        model, sizes = empty_model(config, "float32"), sizes_of(config)
        outside = {name: p.numel() for name, p in model.named_parameters() if ".layers." not in name}
        assert sizes.root == sum(outside.values()) and not sizes.uniform
        layers = [sum(p.numel() for p in layer.parameters()) for layer in model.model.layers]
        assert sizes.layer == max(layers) > min(layers)


def test_what_is_no_decoder_is_refused():
    with pytest.raises(UserError, match="t5"):
        count_parameters(T5Config())
