"""The arithmetic bound: never above the plan, and a hopeless run is refused before torch is imported."""

import json
import os
import subprocess
import sys

import pytest
import yaml
from transformers import NemotronHConfig, Qwen3Config, Qwen3NextConfig, RecurrentGemmaConfig, Zamba2Config

from conftest import RECIPES, ROOT
from medsft.errors import DoesNotFit
from medsft.files import read_json
from medsft.hardware import specs
from medsft.memory import lower_bound
from medsft.memory.strategies import STRATEGIES, applies
from medsft.models.parameter_counts import CONFIGS, count_parameters, known_config

KEPT = sorted(CONFIGS.glob("*.json"))
HERE = specs.machine(".")


@pytest.mark.parametrize("file", KEPT, ids=lambda file: file.stem)
def test_weights_are_counted_to_a_thousandth_and_never_too_many(file):
    values, exact = read_json(file), count_parameters(known_config(file.stem.replace("--", "/")))
    least = 0.9 if "vision_config" in values else 0.999  # a tower for images is not counted
    assert least * exact <= lower_bound.parameters(values) <= exact


SMALL = {"hidden_size": 64, "intermediate_size": 512, "num_attention_heads": 4, "vocab_size": 100}
HYBRIDS = [
    Zamba2Config(**SMALL, num_hidden_layers=4, layers_block_type=["mamba", "hybrid"] * 2, num_mem_blocks=1),
    RecurrentGemmaConfig(**SMALL, num_hidden_layers=4, num_key_value_heads=1),
    NemotronHConfig(**SMALL, num_key_value_heads=4, layers_block_type=["mamba", "attention", "mlp"]),
    Qwen3NextConfig(**SMALL, num_hidden_layers=4, num_key_value_heads=4, num_experts=2, head_dim=16),
]


@pytest.mark.parametrize("config", HYBRIDS, ids=lambda config: config.model_type)
def test_layers_of_other_kinds_are_bounded_by_nothing(config, tmp_path):
    config.save_pretrained(tmp_path)
    assert lower_bound.parameters(read_json(tmp_path / "config.json")) == 0 < count_parameters(config)


@pytest.mark.parametrize("kinds", [["full_attention"] * 4, ["sliding_attention", "full_attention"] * 2])
def test_kinds_of_attention_are_bounded_as_before(kinds):
    config = Qwen3Config(**SMALL, num_hidden_layers=4, num_key_value_heads=4, head_dim=16, layer_types=kinds)
    exact = count_parameters(config)
    assert 0.95 * exact < lower_bound.parameters(config.to_dict()) <= exact


def test_a_config_that_does_not_say_is_not_guessed():
    assert lower_bound.parameters({"model_type": "gpt2", "n_embd": 768}) == 0


@pytest.mark.parametrize("gpu", ["none", "a100-80gb", "t4"])
def test_the_bound_is_below_what_is_known_of_the_plan(gpu):
    """16 bytes a weight in float32, 12 and 2 under offload; more GPUs or machines never need more of each."""
    n, one = 7_241_732_096, specs.described(HERE, gpu, None, "167GB", "2TB")
    several = specs.described(one, gpus=4, nodes=2) if one.gpus else one
    for name, strategy in STRATEGIES.items():
        if applies(name, one.gpus):
            for less, more in zip(
                lower_bound.least(strategy, n, several), lower_bound.least(strategy, n, one), strict=True
            ):
                assert less <= more, name
    host = lower_bound.least(STRATEGIES["full_zero3_offload"], n, one).host
    assert host == 14 * n
    if one.gpus:
        assert lower_bound.least(STRATEGIES["full_fp32"], n, one).device == 16 * n
        assert lower_bound.least(STRATEGIES["full_8bit"], n, one).device < 43.7e9 < 44e9


def test_what_may_fit_is_named(monkeypatch):
    recipe = RECIPES / "configs" / "mistral_7b" / "full_fp32.yaml"
    small = specs.described(HERE, "rtx4090", 1, "64GB", "2TB")
    with pytest.raises(
        DoesNotFit, match=r"full_fp32 of 7.2 billion weights needs at least 116 GB of GPU memory"
    ) as told:
        lower_bound.check(["--config", str(recipe)], small)
    assert "what may fit: lora, qlora" in str(told.value) and "full_zero3_offload," not in str(told.value)
    lower_bound.check(["--config", str(recipe)], specs.described(HERE, "h200", 1, "2TB", "2TB"))


@pytest.mark.parametrize("script", [["plan_memory.py", "--check_only", "true"], ["sft_full.py"]])
def test_a_hopeless_run_is_refused_without_torch(script, tmp_path):
    """100 billion weights fit no machine that runs tests."""
    config = read_json(KEPT[-1]) | {"num_hidden_layers": 2000}
    (tmp_path / "config.json").write_text(json.dumps(config))
    values = yaml.safe_load((RECIPES / "configs" / "demo" / "full_offload.yaml").read_text())
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(values | {"model_name_or_path": str(tmp_path)}))
    code = (
        "import runpy, sys; sys.argv = sys.argv[1:]\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as stop: print(stop.code, 'torch' in sys.modules)"
    )
    path = str(RECIPES / script[0])
    done = subprocess.run(
        [sys.executable, "-c", code, path, *script[1:], "--config", str(recipe)],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(RECIPES)},
    )  # fmt: skip
    assert done.stdout.split()[-2:] == ["3", "False"], done.stdout + done.stderr
    assert "needs at least" in done.stderr and done.stderr.count("\n") == 1
