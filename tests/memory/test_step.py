"""Traced steps against torch's own allocator, and what is known of the study's model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import GPT2Config, LlamaConfig, MixtralConfig, Qwen3Config
from transformers.models.t5 import T5Config

from medsft.errors import UserError
from medsft.memory.recipe import read_recipe
from medsft.memory.step_config import StepConfig
from medsft.memory.trace.library_patches import fake_tensors
from medsft.memory.trace.model import build
from medsft.memory.trace.nf4 import materialize
from medsft.memory.trace.step import highest, trace, trace_layers
from medsft.models.parameter_counts import known_config, sizes_of

MEASURE = Path(__file__).parents[1] / "bench" / "measured_step.py"
SHAPE = {"vocab_size": 500, "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}
LLAMA = {"model_type": "llama", "num_key_value_heads": 2, "intermediate_size": 176, **SHAPE}
TINY = LlamaConfig(**{k: v for k, v in LLAMA.items() if k != "model_type"})


def total(config, step, uniform=True):
    return sum(highest(trace(config, step, uniform))[1].values())


@pytest.fixture(scope="module")
def mistral():
    return known_config("mistralai/Mistral-7B-Instruct-v0.2")


@pytest.mark.parametrize(
    ("settings", "gigabytes"),
    [  # an independent trial of the method, and torch's arithmetic: 16 bytes a parameter in fp32
        ({}, 57.96),
        ({"optimizer": "adamw_torch"}, 72.42),
        ({"optimizer": "paged_adamw_8bit"}, 43.70),
        ({"dtype": "float32"}, 115.9),
        ({"method": "lora"}, 16.35),
    ],
)
def test_study_model(mistral, settings, gigabytes):
    assert total(mistral, StepConfig(**settings)) / 1e9 == pytest.approx(gigabytes, rel=0.01)


def test_nf4_storage_of_the_study_model(mistral):
    model = build(mistral, StepConfig(method="qlora"), 32)
    with fake_tensors():
        materialize(model)
    base = [p for name, p in model.named_parameters() if "lora_" not in name]
    assert sum(p.numel() for p in base) == 3_752_071_168  # as bitsandbytes counts its packed elements
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 41_943_040


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"method": "lora", "checkpointing": False}, {"optimizer": "adamw_torch"}])
def test_extended_depth_is_exact(settings):
    config = LlamaConfig(**{k: v for k, v in LLAMA.items() if k != "model_type"} | {"num_hidden_layers": 7})
    step = StepConfig(batch=2, length=48, on_gpu=False, **settings)
    # Clipping stacks one number a parameter: only its rounding differs, and it is never the peak.
    short, full = trace(config, step, uniform=True), trace_layers(config, step, 7)
    assert {k: v for k, v in short.items() if k != "clip"} == {
        k: v for k, v in full.items() if k != "clip" and "inner" not in k
    }
    assert highest(short) == highest(full)


# Wide enough that the scratch of a single product, which no trace sees, is no hundredth of the whole.
WIDE = {**LLAMA, "vocab_size": 2000, "hidden_size": 256, "intermediate_size": 704, "num_attention_heads": 8}


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [{"checkpointing": False, "optimizer": "adamw_torch"}, {"method": "lora", "dtype": "float32"}],
)
def test_equals_the_allocator(settings):
    step = {"batch": 4, "length": 128, "on_gpu": False, **settings}
    done = subprocess.run([sys.executable, MEASURE, json.dumps(WIDE), json.dumps(step)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout.splitlines()[-1])["allocated"]
    config = LlamaConfig(**{k: v for k, v in WIDE.items() if k != "model_type"})
    assert total(config, StepConfig(**step)) == pytest.approx(measured, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        GPT2Config(n_embd=64, n_layer=5, n_head=4, vocab_size=500),
        MixtralConfig(intermediate_size=96, num_local_experts=4, num_key_value_heads=2, **SHAPE),
        Qwen3Config(intermediate_size=96, head_dim=16, num_key_value_heads=2, tie_word_embeddings=True, **SHAPE),
    ],
    ids=lambda config: config.model_type,
)
@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_any_decoder(config, method):
    """Frozen weights are those of the class, packed as bitsandbytes does; trained ones have gradients as large."""
    step = StepConfig(method=method, batch=1, length=16, on_gpu=False)
    peaks, sizes = trace(config, step, True), sizes_of(config)
    weights, gradients = highest(peaks)[1]["weights"], max(peak["gradients"] for peak in peaks.values())
    least = 2 * sizes.parameters
    if method == "full":
        assert gradients == least
    else:
        least += gradients  # adapters in float32
    if method == "qlora":  # half a byte a weight, a byte for 64, four for 64 x 256; tables of 272 numbers, an offset
        packed = [inputs * outputs for _, inputs, outputs in sizes.linears]
        least += sum(-3 * n // 2 + -(-n // 64) + 4 * -(-n // (64 * 256)) + 4 * 273 for n in packed)
    assert least <= weights < least + 4000  # tables of positions and the mask


def test_tied_embeddings_are_counted_once():
    tied = LlamaConfig(**SHAPE, intermediate_size=176, tie_word_embeddings=True)
    free = LlamaConfig(**SHAPE, intermediate_size=176, tie_word_embeddings=False)
    weights = [highest(trace(c, StepConfig(batch=1, length=8, on_gpu=False), True))[1]["weights"] for c in (tied, free)]
    assert weights[1] - weights[0] == 2 * 500 * 64


ADAPTED = {
    "lora": "use_peft: true\ndtype: bfloat16",
    "qlora": "use_peft: true\ndtype: bfloat16\nload_in_4bit: true\nstrategy: qlora",
}


def planned(folder, method, more, config):
    """Bytes by category at the peak of a recipe's step, and of the gradients."""
    (folder / "mine.yaml").write_text(f"arm: mine\nlora_target_modules: [q_proj]\n{ADAPTED[method]}\n{more}\n")
    step = read_recipe(["--config", str(folder / "mine.yaml")]).step
    peaks = trace(config, StepConfig(**step, method=method, batch=1, length=8, on_gpu=False), False)
    return highest(peaks)[1], max(peak["gradients"] for peak in peaks.values())


@pytest.mark.parametrize("method", ADAPTED)
@pytest.mark.parametrize(
    ("more", "trained"),
    [
        ("lora_modules_to_save: [lm_head]", 500 * 64),
        ("use_dora: true", 2 * 64),  # a magnitude for each output of q_proj, in two layers
    ],
    ids=["modules_to_save", "dora"],
)
def test_what_a_recipe_trains_beside_its_adapters_is_counted(tmp_path, method, more, trained):
    config = LlamaConfig(**{k: v for k, v in LLAMA.items() if k != "model_type"} | {"num_hidden_layers": 2})
    plain, plain_gradients = planned(tmp_path, method, "", config)
    found, gradients = planned(tmp_path, method, more, config)
    assert found["weights"] - plain["weights"] == gradients - plain_gradients == 4 * trained  # in float32
    assert 8 * trained <= found["optimizer"] - plain["optimizer"] <= 8 * trained + 64  # two moments, and step counts


def test_adapters_on_experts_in_one_tensor_are_counted(tmp_path):
    config = MixtralConfig(
        intermediate_size=96, num_local_experts=4, num_key_value_heads=2, **SHAPE | {"num_hidden_layers": 2}
    )
    adapters = 2 * 4 * 16 * (64 + 2 * 96)  # in two layers of four experts
    _, plain = planned(tmp_path, "lora", "", config)
    _, found = planned(tmp_path, "lora", "lora_dropout: 0.0\nlora_target_parameters: [gate_up_proj]", config)
    assert found - plain == 4 * adapters


def test_a_model_without_a_decoder_is_refused():
    with pytest.raises(UserError, match="t5"):
        trace(T5Config(num_layers=2), StepConfig(), True)


def test_packing_builds_one_mask_over_the_whole_row():
    together = total(TINY, StepConfig(batch=4, length=128, packing=True, checkpointing=False))
    apart = total(TINY, StepConfig(batch=4, length=128, padded=False, checkpointing=False))
    assert together > apart
