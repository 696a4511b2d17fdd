"""How many bf16 weights move at full fine-tuning's rate: by rounding to nearest, stochastically, and in float32."""

import json
import os
import subprocess
import sys

import pytest

from conftest import RECIPES, ROOT

TORCHAO = ROOT / ".venv" / "test-only" / "torchao"
MEASURE = """
import json, sys, torch
torch.compile = lambda function, **_: function  # the same arithmetic without a compiler
from transformers import Trainer, TrainingArguments
from medsft.training.record import master_precision

def moved(dtype, optim, optim_args):
    torch.manual_seed(0)
    layer = torch.nn.Linear(256, 256, bias=False)
    torch.nn.init.normal_(layer.weight, std=0.02)  # as wide as a language model's
    layer.to(dtype)
    before = layer.weight.detach().clone()
    args = TrainingArguments("unused", optim=optim, optim_args=optim_args, use_cpu=True, learning_rate=2e-5)
    args.deepspeed_plugin = None
    kind, values = Trainer.get_optimizer_cls_and_kwargs(args, layer)
    optimizer = kind(layer.parameters(), **values)
    direction = torch.randn_like(before)
    for _ in range(12):
        layer.weight.grad = direction + torch.randn_like(before)
        optimizer.step()
    change = layer.weight.detach().float() - before.float()
    return (change != 0).float().mean().item(), change.norm().item(), master_precision(layer, args)

print(json.dumps([
    moved(torch.float32, "adamw_torch", None),
    moved(torch.bfloat16, "adamw_torch", None),
    moved(torch.bfloat16, "adamw_torch_8bit", "bf16_stochastic_round=True"),
]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not TORCHAO.is_dir(), reason="torchao is not in .venv/test-only (make setup-dev)")
def test_stochastic_rounding_keeps_the_updates_that_bf16_loses() -> None:
    path = os.pathsep.join([str(RECIPES), str(TORCHAO.parent)])
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    reference, nearest, stochastic = json.loads(done.stdout.splitlines()[-1])
    assert reference[0] > 0.99 and reference[2] == "float32"
    assert nearest[2] == "bfloat16" and stochastic[2] == "bfloat16, stochastic rounding"
    assert nearest[0] < 0.35 and stochastic[0] > 2 * nearest[0]
    assert nearest[1] < 0.9 * reference[1]  # the length of the whole update: rounding loses a part of it
