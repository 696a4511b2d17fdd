"""Full fine-tuning by FlashAdamW, whose own kernels run in Triton's interpreter: keeps updates, trains, continues."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from conftest import RECIPES, ROOT
from medsft.errors import UserError
from medsft.models import flash_adamw
from training_runs import losses, record

TRITON = ROOT / ".venv" / "test-triton"
HERE = Path(__file__).parent
RECIPE = RECIPES / "configs" / "mistral_7b" / "full_flash.yaml"
SIZES = ("--use_cpu", "true", "--dataloader_pin_memory", "false", "--host_reserve_gb", "0", "--host_floor_gb", "0",
         "--max_steps", "2", "--save_steps", "1", "--logging_steps", "1", "--eval_strategy", "no",
         "--learning_rate", "3e-4", "--per_device_train_batch_size", "4", "--rows_per_step", "4",
         "--max_train_rows", "40")  # fmt: skip
needs_triton = pytest.mark.skipif(not TRITON.is_dir(), reason="triton is not in .venv/test-triton (make setup-dev)")
UPDATES = """
import json, torch
import interpreted
from medsft.models import flash_adamw

def moved(dtype, make, whole=None):
    torch.manual_seed(0)
    layer = torch.nn.Linear(256, 256, bias=False)
    torch.nn.init.normal_(layer.weight, std=0.02)  # as wide as a language model's
    layer.to(dtype)
    before = layer.weight.detach().clone().float()
    optimizer = make([{"params": [*layer.parameters()], "weight_decay": 0.0}])
    drawn = torch.Generator().manual_seed(1)
    direction = torch.randn(256, 256, generator=drawn)
    for _ in range(12):
        layer.weight.grad = (direction + torch.randn(256, 256, generator=drawn)).to(dtype)
        optimizer.step()
    weight = interpreted.on_a_processor(optimizer.get_fp32_model_state_dict)(layer)["weight"] if whole else layer.weight
    return weight.detach().float() - before, optimizer.state[layer.weight]

reference, _ = moved(torch.float32, lambda groups: torch.optim.AdamW(groups, lr=2e-5))
nearest, _ = moved(torch.bfloat16, lambda groups: torch.optim.AdamW(groups, lr=2e-5))
flash, state = moved(torch.bfloat16, lambda groups: flash_adamw.make(groups, 2e-5, (0.9, 0.999), 1e-8), whole=True)
share = lambda update: ((update * reference).sum() / (reference * reference).sum()).item()
sizes = [part.nbytes for value in state.values() if getattr(value, "ndim", 2)
         for part in ([value._quantized, value._scales] if hasattr(value, "_scales") else [value])]
print(json.dumps([share(nearest), share(flash), (flash != 0).float().mean().item(), sum(sizes)]))
"""


def interpreted(*words: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(RECIPES), str(HERE), str(TRITON)])
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, timeout=600
    )


@pytest.mark.slow
@needs_triton
def test_it_keeps_the_updates_that_bf16_loses_in_3_bytes_a_weight() -> None:
    done = interpreted("-c", UPDATES)
    assert done.returncode == 0, done.stderr[-2000:]
    nearest, flash, moved, size = json.loads(done.stdout.splitlines()[-1])
    assert nearest < 0.5  # of the update along float32's
    assert flash == pytest.approx(1, abs=0.1)
    assert moved > 0.99
    stand_in = flash_adamw.FlashStates([{"params": [torch.nn.Parameter(torch.zeros(256, 256, dtype=torch.bfloat16))]}])
    stand_in.step()
    held = [value.nbytes for state in stand_in.state.values() for value in state.values()]
    assert sum(held) == size == 3.125 * 256 * 256


@pytest.mark.slow
@needs_triton
def test_the_recipe_trains_and_continues_from_a_checkpoint(tiny_study: Path, tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_study / "data", tmp_path / "data")
    smaller = tmp_path / "model"  # the interpreter takes two seconds a step for each million of weights
    config = LlamaConfig.from_pretrained(tiny_model, hidden_size=8, intermediate_size=16, num_hidden_layers=1)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(smaller)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (tiny_model / name).is_file():
            shutil.copy(tiny_model / name, smaller)
    line = (str(HERE / "interpreted.py"), str(RECIPES / "sft_full.py"), "--config", str(RECIPE),
            "--study_dir", str(tmp_path), "--model_name_or_path", str(smaller), *SIZES)  # fmt: skip
    done = interpreted(*line)
    assert done.returncode == 0, done.stderr[-3000:]
    whole = losses(tmp_path, "full_flash")
    assert len(whole) == 2
    assert record(tmp_path, "full_flash")["master_precision"] == "bfloat16 and 8 bits more"
    arm = tmp_path / "full_flash"
    (arm / "train.json").unlink()
    for name in ("checkpoint-2", "model"):
        shutil.rmtree(arm / name)
    again = interpreted(*line)
    assert again.returncode == 0 and "continuing from" in again.stdout, again.stderr[-3000:]
    assert losses(tmp_path, "full_flash") == pytest.approx(whole, abs=0.02)


def test_it_is_refused_where_it_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flash_adamw, "find_spec", lambda _name: None)
    with pytest.raises(UserError, match=r"not installed; run: pip install flashoptim==0\.1\.4"):
        flash_adamw.check()
    monkeypatch.setattr(flash_adamw, "find_spec", lambda name: name)
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="NVIDIA GPUs only"):
            flash_adamw.check()
