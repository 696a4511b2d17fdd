"""The embedded models: real, whole, checked; and what is refused."""

import json
from pathlib import Path

import huggingface_hub
import pytest
import torch

from medsft.errors import UserError
from medsft.files import sha256_file
from medsft.models import embedded, loading


def test_the_embedded_model_is_smollm2_in_safetensors() -> None:
    folder = Path(loading.resolve(embedded.SMOLLM2))
    assert {"config.json", "model.safetensors", "tokenizer.json", "checksum.json"} <= {p.name for p in folder.iterdir()}
    network = loading.load_model(embedded.SMOLLM2, "bfloat16")
    assert sum(p.numel() for p in network.parameters()) == 134_515_008
    assert network.generation_config.pad_token_id != network.generation_config.eos_token_id


def test_a_damaged_copy_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Path(loading.resolve(embedded.SMOLLM2))
    monkeypatch.setenv("MEDSFT_CACHE", str(tmp_path))
    damaged = tmp_path / whole.name
    damaged.mkdir()
    (damaged / "checksum.json").write_text((whole / "checksum.json").read_text())
    (damaged / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(UserError, match="does not match its checksum; delete"):
        loading.resolve(embedded.SMOLLM2)


def test_damage_is_noticed_in_a_process_that_has_checked_the_model_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDSFT_CACHE", str(tmp_path))
    folder = tmp_path / f"SmolLM2-135M-Instruct-{embedded.GGUF_SHA256[:8]}"
    folder.mkdir()
    weights = folder / "model.safetensors"
    weights.write_bytes(b"whole")
    (folder / "checksum.json").write_text(json.dumps({"model.safetensors": sha256_file(weights)}))
    assert loading.resolve(embedded.SMOLLM2) == str(folder)
    weights.write_bytes(b"torn!")
    with pytest.raises(UserError, match="does not match its checksum; delete"):
        loading.resolve(embedded.SMOLLM2)


def test_padding_never_ends_a_turn() -> None:
    tokenizer = loading.load_tokenizer(embedded.SMOLLM2)
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert tokenizer.eos_token == "<|im_end|>"


@pytest.mark.parametrize(
    ("name", "message"),
    [("embedded/GPT-9", "is not embedded"), ("./nowhere", "does not exist"), ("no-such/model", "cannot be loaded")],
)
def test_unknown_models_are_refused_with_a_remedy(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        loading.load_tokenizer(name)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (None, "model.safetensors is not in this folder"),
        ({"weight_map": {"a": "../other/model.safetensors"}}, "other/model.safetensors is not in this folder"),
        ({"weight_map": {"a": "model-00001-of-00002.safetensors"}}, "model-00001-of-00002.safetensors is not"),
        ({"metadata": {}}, "weight_map names no files"),
        (["a"], "weight_map names no files"),
        ({"weight_map": {"a": 1}}, "weight_map names no files"),
    ],
)
def test_a_folder_without_its_own_safetensors_is_refused(tmp_path: Path, index: object, message: str) -> None:
    (tmp_path / "pytorch_model.bin").touch()
    if index is not None:
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=message):
        loading.check_weights(str(tmp_path))


def test_bertscore_encoder_is_the_embedded_minilm() -> None:
    assert loading.load_config(embedded.MINILM).num_hidden_layers == 6


def test_the_revision_of_a_hub_model_is_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    cached = tmp_path / "models--someone--model"
    (cached / "snapshots" / commit).mkdir(parents=True)
    (cached / "snapshots" / commit / "config.json").write_text("{}")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert loading.revision("someone/model") == commit


def test_what_words_do_not_pass_through_is_frozen() -> None:
    """Gemma 3 reads pictures too; its whole model is what TRL loads, and these rows hold words only."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, LlamaConfig, LlamaForCausalLM

    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text |= {"num_key_value_heads": 1, "head_dim": 16, "vocab_size": 128}
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": 28, "patch_size": 14}
    network = Gemma3ForConditionalGeneration(Gemma3Config(text_config=text, vision_config=vision))
    loading.freeze_unread(network)
    network(input_ids=torch.tensor([[1, 2, 3]]), labels=torch.tensor([[1, 2, 3]])).loss.backward()
    trained = {name: one.grad is not None for name, one in network.named_parameters() if one.requires_grad}
    assert all(trained.values()) and any("layers.1" in name for name in trained)
    frozen = {name.split(".")[1] for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert frozen == {"vision_tower", "multi_modal_projector"}
    plain = LlamaForCausalLM(LlamaConfig(**{**text, "head_dim": None}))
    loading.freeze_unread(plain)
    assert all(parameter.requires_grad for parameter in plain.parameters())
