"""How many bf16 weights move at full fine-tuning's rate: by rounding to nearest, stochastically, and in float32."""

import pytest
import torch
from transformers import Trainer, TrainingArguments

from medsft.training.record import master_precision

RATE, STEPS = 2e-5, 12


def moved(dtype: torch.dtype, optim: str, optim_args: str | None) -> tuple[float, float, str]:
    """(share of the weights that moved, length of the whole update, its recorded precision)."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(256, 256, bias=False)
    torch.nn.init.normal_(layer.weight, std=0.02)  # as wide as a language model's
    layer.to(dtype)
    before = layer.weight.detach().clone()
    args = TrainingArguments("unused", optim=optim, optim_args=optim_args, use_cpu=True, learning_rate=RATE)
    kind, values = Trainer.get_optimizer_cls_and_kwargs(args, layer)
    optimizer = kind(layer.parameters(), **values)
    direction = torch.randn_like(before)
    for _ in range(STEPS):
        layer.weight.grad = direction + torch.randn_like(before)
        optimizer.step()
    args.deepspeed_plugin = None
    change = layer.weight.detach().float() - before.float()
    return (change != 0).float().mean().item(), change.norm().item(), master_precision(layer, args)


def test_stochastic_rounding_keeps_the_updates_that_bf16_loses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)  # the same arithmetic without a compiler
    reference = moved(torch.float32, "adamw_torch", None)
    nearest = moved(torch.bfloat16, "adamw_torch", None)
    stochastic = moved(torch.bfloat16, "adamw_torch_8bit", "bf16_stochastic_round=True")
    assert reference[0] > 0.99 and reference[2] == "float32"
    assert nearest[2] == "bfloat16" and stochastic[2] == "bfloat16, stochastic rounding"
    assert nearest[0] < 0.35 and stochastic[0] > 2 * nearest[0]
    # the update's length: rounding loses it, noise adds to it
    assert nearest[1] < 0.8 * reference[1] < stochastic[1]
