"""The optimizer of the backward pass: what AdamW does, without a gradient left, and from a checkpoint as before."""

import copy
import io

import pytest
import torch

from medsft.models.optimizer_in_backward import BackwardOptimizer

Net = torch.nn.Module


def network() -> Net:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))


def groups(net: Net) -> list[dict[str, object]]:
    return [
        {"params": [p for p in net.parameters() if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in net.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]


def adamw(given: list[dict[str, object]]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(given, lr=1e-2)


def train(net: Net, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 / (1 + step)
        torch.manual_seed(step)
        net(torch.randn(4, 6)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def weights(net: Net) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_it_is_adamw_with_schedule_and_decay_by_group() -> None:
    plain, hooked = network(), network()
    train(plain, adamw(groups(plain)), range(5))
    train(hooked, BackwardOptimizer(groups(hooked), adamw), range(5))
    assert torch.equal(weights(plain), weights(hooked))
    assert not torch.equal(weights(plain), weights(network()))


def test_no_gradient_is_left_after_the_backward_pass() -> None:
    net, most = network(), [0]
    optimizer = BackwardOptimizer(groups(net), adamw)
    for parameter in net.parameters():  # registered after the step: what is still held then
        parameter.register_post_accumulate_grad_hook(
            lambda _: most.append(sum(p.grad is not None for p in net.parameters()))
        )
    before = weights(net)
    net(torch.ones(2, 6)).sum().backward()
    assert max(most) == 0 and not torch.equal(before, weights(net))
    assert len(optimizer.parts) == 4


def test_it_continues_from_its_state_to_the_same_weights() -> None:
    whole, first = network(), network()
    train(whole, BackwardOptimizer(groups(whole), adamw), range(6))
    optimizer = BackwardOptimizer(groups(first), adamw)
    train(first, optimizer, range(3))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    second = copy.deepcopy(network())
    second.load_state_dict(first.state_dict())
    resumed = BackwardOptimizer(groups(second), adamw)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    train(second, resumed, range(3, 6))
    assert torch.equal(weights(whole), weights(second))
    with pytest.raises(ValueError):
        resumed.load_state_dict({"parts": [], "param_groups": []})
