"""GGUF files by our writer, read by transformers' own reader: the same weights, logits, tokens and template."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from conftest import run_here, write_adapter_arm
from medsft.errors import UserError
from medsft.models import embedded, loading
from medsft.serving import gguf_export, gguf_file, gguf_quantization, gguf_vocabulary
from medsft.tokenization import chat_template

SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
PLAIN_ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def random_decoder(kind: str, folder: Path, tied: bool = True, rope: dict[str, Any] = PLAIN_ROPE) -> Path:
    """A random decoder of this architecture with the embedded model's tokenizer."""
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = loading.load_tokenizer(embedded.SMOLLM2)
    torch.manual_seed(3)
    config = AutoConfig.for_model(
        kind,
        vocab_size=len(tokenizer),
        num_key_value_heads=2,
        head_dim=128 if kind == "qwen3" else 16,  # transformers' reader takes Qwen3's own 128 whatever the file says
        max_position_embeddings=512,
        initializer_range=0.15,
        tie_word_embeddings=tied,
        rope_parameters=rope,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
        **SIZES,
    )
    network = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for name, parameter in network.named_parameters():
        if name.endswith("bias") or "norm" in name:  # which start as 0 and 1, where a lost one would not show
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "tied"), [("llama", True), ("mistral", False), ("qwen2", True), ("qwen3", False)])
def test_transformers_reads_the_same_logits_from_the_file(kind: str, tied: bool, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    folder = random_decoder(kind, tmp_path / "model", tied)
    gguf_file.write(folder, tmp_path / "a.gguf", loading.load_tokenizer(str(folder)), "a", "f32", 512)
    source: dict[str, Any] = {"gguf_file": "a.gguf"}
    read = AutoModelForCausalLM.from_pretrained(
        tmp_path, **source, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    ids = torch.arange(100, 140)[None]
    with torch.inference_mode():
        ours, theirs = loading.load_model(str(folder), "float32")(ids).logits, read(ids).logits
    assert torch.allclose(ours, theirs, atol=1e-4)
    assert ours.std() > 0.5
    text = "I've 1234 pills,\n\n  and naïve café 😶 questions?"
    expected = loading.load_tokenizer(str(folder))(text)["input_ids"]
    assert AutoTokenizer.from_pretrained(tmp_path, **source)(text)["input_ids"] == expected


def test_the_rotary_factors_of_llama_3_stretch_long_wavelengths_only(tmp_path: Path) -> None:
    folder = random_decoder("llama", tmp_path / "model", rope=LLAMA3_ROPE)
    gguf_file.write(folder, tmp_path / "a.gguf", loading.load_tokenizer(str(folder)), "a", "f32", 512)
    factors = {t.name: t.data for t in gguf.GGUFReader(tmp_path / "a.gguf").tensors}["rope_freqs.weight"]
    # wavelengths 2 pi 500000^(j/8): 6.3 and 32 are at most 64 / 4 and in between; from 167 on all are beyond 64
    assert factors[0] == pytest.approx(1.0)
    assert 1 < factors[1] < 8
    assert factors[2:] == pytest.approx(8.0)


def test_rows_are_interleaved_within_each_head() -> None:
    """Two heads of four rows: a head's halves (0, 1) and (2, 3) alternate."""
    rows = np.arange(8)[:, None]
    assert gguf_file.interleaved(rows, heads=2).ravel().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_the_file_names_the_ends_of_turn_and_holds_the_template(tmp_path: Path, tiny_model: Path) -> None:
    tokenizer = loading.load_tokenizer(str(tiny_model))
    gguf_file.write(tiny_model, tmp_path / "a.gguf", tokenizer, "a", "q8_0", 512)
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["tokenizer.ggml.eos_token_id"] in chat_template.stop_ids(tokenizer)
    assert fields["tokenizer.ggml.add_bos_token"] is False
    assert fields["tokenizer.chat_template"] == tokenizer.chat_template
    kinds = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert kinds["token_embd.weight"] == "Q8_0" and kinds["blk.0.attn_norm.weight"] == "F32"
    types = fields["tokenizer.ggml.token_type"]
    assert types[tokenizer.convert_tokens_to_ids("<|im_end|>")] == gguf.TokenType.CONTROL


def test_q8_0_is_within_half_a_step_of_its_block() -> None:
    values = np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32)
    bytes_ = gguf_quantization.encode(values, gguf.GGMLQuantizationType.Q8_0)
    assert bytes_.shape == (4, 68)  # 32 values in 34 bytes
    back = gguf.dequantize(bytes_, gguf.GGMLQuantizationType.Q8_0)
    steps = np.abs(values.reshape(4, 2, 32)).max(-1, keepdims=True) / 127
    assert (np.abs(back - values).reshape(4, 2, 32) <= 0.51 * steps).all()


@pytest.mark.parametrize(
    ("name", "layers", "expected"),
    [
        ("token_embd.weight", 32, "Q6_K"),
        ("blk.0.attn_v.weight", 32, "Q6_K"),
        ("blk.4.ffn_down.weight", 32, "Q4_K"),
        ("blk.6.ffn_down.weight", 32, "Q6_K"),
        ("blk.31.attn_v.weight", 32, "Q6_K"),
        ("blk.6.attn_q.weight", 32, "Q4_K"),
        ("blk.6.attn_norm.weight", 32, "F32"),
    ],
)
def test_q4_k_m_is_a_mixture(name: str, layers: int, expected: str) -> None:
    from transformers import LlamaConfig

    config = LlamaConfig(num_hidden_layers=layers, tie_word_embeddings=True)
    shape = [4096] if "norm" in name else [4096, 4096]
    assert gguf_quantization.type_of(name, shape, "q4_k_m", config).name == expected
    odd = gguf_quantization.type_of(name, [shape[0], 576], "q4_k_m", config).name
    assert odd == {"Q6_K": "Q8_0", "Q4_K": "Q5_0"}.get(expected, odd)


def test_what_llama_cpp_would_split_otherwise_is_refused() -> None:
    split = {"type": "Split", "pattern": {"Regex": "a|b"}, "behavior": "Isolated", "invert": False}
    with pytest.raises(UserError, match="splitting"):
        gguf_vocabulary._split({"pretokenizers": [split, {"type": "ByteLevel", "use_regex": False}]})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt2"}, "models of the kind gpt2 are not written here"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "of the kind yarn"),
    ],
)
def test_a_decoder_that_is_not_written_here_is_refused(changes: dict[str, Any], message: str) -> None:
    from types import SimpleNamespace

    known = {"model_type": "llama", "rope_parameters": PLAIN_ROPE, "attention_bias": False}
    with pytest.raises(UserError, match=message):
        gguf_file.check(SimpleNamespace(**{**known, **changes}))


@pytest.mark.slow
def test_an_export_is_one_file_and_its_line_scores_it_as_an_arm(tiny_model: Path, tmp_path: Path) -> None:
    study = tmp_path / "tiny"
    write_adapter_arm(study / "lora", tiny_model, seed=1)
    done = run_here("export.py", "--study_dir", study, "--arm", "lora", "--format", "gguf", "--quantize", "q8_0")
    assert done.returncode == 0, done.stderr
    folder = study / "lora" / "export" / "gguf-q8_0"
    assert (folder / "lora-q8_0.gguf").is_file() and not [*folder.glob("*.safetensors*")]
    record = json.loads((folder / "export.json").read_text())
    assert record["quantize"] == "q8_0" and record["bytes"] == (folder / "lora-q8_0.gguf").stat().st_size
    assert f"--study_dir {study} --arm lora_q8 --engine gguf" in record["commands"][1]
    assert gguf_export.commands.__doc__
    refused = run_here("export.py", "--study_dir", study, "--arm", "lora", "--format", "gguf", "--quantize", "q3")
    assert refused.returncode == 2 and "--quantize q3: choose one of" in refused.stderr
