"""What is refused before a weight is read: quantized, short, mismatched models; names that are not there."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import GPT2Config, LlamaConfig

from medsft.errors import UserError
from medsft.models import loading, model_checks


def copied(tiny_model: Path, folder: Path, **changes: Any) -> Path:
    """The tiny model without its weights, its config.json changed: what is tested here reads none."""
    shutil.copytree(tiny_model, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return folder


def test_a_quantized_base_is_refused_with_the_way_to_qlora(tiny_model: Path, tmp_path: Path) -> None:
    folder = copied(
        tiny_model, tmp_path / "nf4", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}
    )
    with pytest.raises(UserError, match=r"quantized already \(bitsandbytes\).*name the unquantized model"):
        model_checks.check_base(str(folder), 512)


def test_rows_longer_than_the_models_positions_are_refused_with_the_length_that_fits(
    tiny_model: Path, tmp_path: Path
) -> None:
    folder = copied(tiny_model, tmp_path / "short", max_position_embeddings=96)
    with pytest.raises(UserError, match="has 96 positions; .* --max_length 96"):
        model_checks.check_base(str(folder), 512)
    assert model_checks.check_base(str(folder), 96).vocab_size == 49152  # the remedy works
    config = loading.load_config(str(folder))
    with pytest.raises(UserError, match="use --max_new_tokens 16"):
        model_checks.check_answers(config, 80, 32)
    model_checks.check_answers(config, 80, 16)
    with pytest.raises(UserError, match="smaller --max_length"):
        model_checks.check_answers(config, 96, 1)


@pytest.mark.parametrize("nested", [False, True])
def test_a_budget_over_the_models_positions_names_the_limit_and_is_told_without_transformers(
    tiny_model: Path, tmp_path: Path, nested: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stated = {"max_position_embeddings": 96}
    folder = copied(tiny_model, tmp_path / "m", **({"text_config": stated} if nested else stated))
    monkeypatch.setattr(model_checks, "load_config", lambda name: pytest.fail("config.json says it"))
    with pytest.raises(UserError, match="max_length 512: model .* has 96 positions; use --max_length 96"):
        model_checks.check_length(str(folder), 512)
    model_checks.check_length(str(folder), 96)


def test_positions_that_a_config_leaves_to_its_architecture_count_too(tiny_model: Path, tmp_path: Path) -> None:
    folder = copied(tiny_model, tmp_path / "m", max_position_embeddings=None)
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_positions": 1024}))
    with pytest.raises(UserError, match="use --max_length 1024"):
        model_checks.check_length(str(folder), 1025)
    (folder / "config.json").unlink()  # a tokenizer alone has no positions
    model_checks.check_length(str(folder), 10**6)


def test_a_token_without_a_row_in_the_embedding_is_refused() -> None:
    config = LlamaConfig(vocab_size=100)
    model_checks.check_vocabulary("m", config, 99, "<|end|>")
    with pytest.raises(UserError, match=r"100 rows.*'<\|end\|>'.*id 100"):
        model_checks.check_vocabulary("m", config, 100, "<|end|>")


def test_absent_lora_targets_are_refused_with_those_that_are_there() -> None:
    config = GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=10)
    with pytest.raises(UserError, match="lora_target_modules: .*no linear layer 'q_proj'; it has c_attn"):
        model_checks.check_targets(config, ["q_proj"])
    model_checks.check_targets(config, ["attn.c_attn"])
    model_checks.check_targets(config, ".*mlp.*")


def test_a_padding_token_outside_the_embedding_is_replaced(tiny_model: Path, tmp_path: Path) -> None:
    folder = copied(tiny_model, tmp_path / "oov")
    tokenizer = loading.load_tokenizer(str(tiny_model))
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    assert tokenizer.pad_token_id == 49152  # one more than the model has rows
    tokenizer.save_pretrained(folder)
    assert loading.load_tokenizer(str(folder)).pad_token_id < 49152


def test_of_several_chat_templates_the_default_is_taken(tiny_model: Path, tmp_path: Path) -> None:
    folder = copied(tiny_model, tmp_path / "named")
    tokenizer = loading.load_tokenizer(str(tiny_model))
    own = tokenizer.chat_template
    tokenizer.chat_template = {"default": own, "tool_use": "{{ 'tools' }}"}
    tokenizer.save_pretrained(folder)
    assert loading.load_tokenizer(str(folder)).chat_template == own
    shutil.rmtree(folder)
    copied(tiny_model, folder)
    (folder / "chat_template.jinja").unlink()
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["chat_template"] = [{"name": "rag", "template": "x"}, {"name": "tool_use", "template": "y"}]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match="rag, tool_use and no 'default'"):
        loading.load_tokenizer(str(folder))
    (folder / "chat_template.jinja").write_text(own)  # the remedy works
    assert loading.load_tokenizer(str(folder)).chat_template == own


def test_the_stops_of_generation_config_are_kept(tiny_model: Path, tmp_path: Path) -> None:
    folder = copied(tiny_model, tmp_path / "stops")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 0]}))
    assert loading.load_tokenizer(str(folder)).published_stops == [2, 0]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 0}))
    assert loading.load_tokenizer(str(folder)).published_stops == [0]


@pytest.mark.parametrize("name", ["no/such/folder", "models/mistral/", "./nowhere/", "two words/model"])
def test_a_mistyped_folder_is_said_to_be_absent(name: str) -> None:
    with pytest.raises(UserError, match="does not exist"):
        loading.resolve(name)


def test_a_slash_after_a_folder_or_a_hub_id_changes_nothing(tiny_model: Path) -> None:
    assert loading.resolve(f"{tiny_model}/") == str(tiny_model)
    assert loading.resolve("someone/model") == "someone/model"


def test_an_embedding_and_a_head_trained_whole_in_float32_fit_a_base_in_bfloat16() -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    network = LlamaForCausalLM(LlamaConfig(vocab_size=32, **sizes)).to(torch.bfloat16)
    wanted = LoraConfig(target_modules=["q_proj"], modules_to_save=["lm_head", "embed_tokens"])
    adapted = get_peft_model(network, wanted, autocast_adapter_dtype=False)
    loading.cast_trained(adapted, "float32")
    ids = torch.arange(8)[None]
    adapted(input_ids=ids, labels=ids).loss.backward()
    trained = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
    assert {p.dtype for p in trained.values()} == {torch.float32}
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained.values())
    assert len([name for name in trained if "modules_to_save" in name]) == 2
