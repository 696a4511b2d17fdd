"""The fused LoRA layer against PEFT's own: outputs and gradients, and what is left to PEFT."""

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from medsft.models import lora_linear


def two_layers(dtype: torch.dtype, **options: Any) -> Any:
    """A network with LoRA on both of its layers, B not zero."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Linear(24, 40, bias=False), torch.nn.SiLU(), torch.nn.Linear(40, 8, bias=False)
    )
    network = get_peft_model(network.to(dtype), LoraConfig(r=4, lora_alpha=12, target_modules=["0", "2"], **options))
    for name, parameter in network.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return network


def gradients(network: Any, x: torch.Tensor) -> dict[str, torch.Tensor]:
    x = x.clone().requires_grad_()
    out = network(x)
    out.float().pow(2).sum().backward()
    found = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    assert x.grad is not None
    return {**found, "x": x.grad, "out": out.detach()}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-6), (torch.bfloat16, 0.03)])
def test_outputs_and_gradients_are_pefts(dtype: torch.dtype, tolerance: float) -> None:
    theirs = two_layers(dtype)
    ours = copy.deepcopy(theirs)
    assert lora_linear.fuse(ours) == 2
    x = torch.randn(3, 5, 24, dtype=dtype)
    one, two = gradients(theirs, x), gradients(ours, x)
    assert one.keys() == two.keys()
    assert len(one) == 6
    for name in one:
        assert one[name].dtype == two[name].dtype
        error = (one[name] - two[name]).double().norm() / one[name].double().norm()
        assert error < tolerance, name


def test_an_adapter_that_is_off_or_merged_is_pefts_business() -> None:
    network = two_layers(torch.float32)
    x = torch.randn(2, 24)
    with_adapter = network(x)
    lora_linear.fuse(network)
    with network.disable_adapter():
        off = network(x)
    assert not torch.allclose(off, with_adapter, atol=1e-3)
    network.merge_adapter()
    assert torch.allclose(network(x), with_adapter, atol=1e-4)


def test_on_an_nf4_base_outputs_and_gradients_are_pefts() -> None:
    """As the recipes hold them: float32 adapters on a 4-bit base that computes in bfloat16."""
    import bitsandbytes as bnb

    torch.manual_seed(0)
    options: dict[str, Any] = {"bias": False, "quant_type": "nf4", "compute_dtype": torch.bfloat16}
    layers = [bnb.nn.Linear4bit(64, 128, **options), torch.nn.SiLU(), bnb.nn.Linear4bit(128, 64, **options)]
    theirs = torch.nn.Sequential(*layers).bfloat16().to("cpu")
    theirs.is_loaded_in_4bit = True  # what PEFT asks a model for
    theirs = get_peft_model(theirs, LoraConfig(r=4, lora_alpha=12, target_modules=["0", "2"]))
    for name, parameter in theirs.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
            torch.nn.init.normal_(parameter, std=0.1)
    x = torch.randn(3, 5, 64, dtype=torch.bfloat16)
    one = gradients(theirs, x)
    theirs.zero_grad()
    assert lora_linear.fuse(theirs) == 2
    two = gradients(theirs, x)
    assert one.keys() == two.keys()
    assert len(one) == 6
    for name in one:
        assert one[name].dtype == two[name].dtype
        error = (one[name] - two[name]).double().norm() / one[name].double().norm()
        assert error < 0.03, name


@pytest.mark.parametrize("options", [{"lora_dropout": 0.1}, {"use_dora": True}, {"lora_bias": True}, {"bias": "all"}])
def test_what_is_not_plain_lora_is_left_alone(options: dict[str, Any]) -> None:
    network = two_layers(torch.float32, **options)
    assert lora_linear.fuse(network) == (2 if "bias" in options else 0)
