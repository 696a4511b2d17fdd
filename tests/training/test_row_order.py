"""The order of training rows follows from seed and epoch, whatever was drawn before and on however many GPUs."""

import torch

from medsft.training.setup.row_order import EpochSampler

LENGTHS = [n * 7 % 50 for n in range(200)]


def test_every_epoch_has_its_own_order_and_has_it_again() -> None:
    sampler = EpochSampler(LENGTHS, 8, 42)
    orders = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        orders.append([*sampler])
    assert all(sorted(order) == [*range(200)] for order in orders)
    assert orders[0] != orders[1] != orders[2]
    torch.rand(5)  # other draws change nothing
    continued = EpochSampler(LENGTHS, 8, 42)
    continued.set_epoch(2)
    assert [*continued] == orders[2]
    assert [*EpochSampler(LENGTHS, 8, 43)] != orders[0]


def test_the_rows_of_a_step_are_alike_in_length() -> None:
    order = [*EpochSampler(LENGTHS, 8, 42)]
    steps = [[LENGTHS[row] for row in order[at : at + 8]] for at in range(0, 200, 8)]
    assert sum(max(step) - min(step) for step in steps) / len(steps) < 25
