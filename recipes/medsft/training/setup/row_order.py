"""The order of training rows, grouped by length, as a function of seed and epoch alone."""

from collections.abc import Iterator, Sequence

import torch
from transformers.trainer_pt_utils import LengthGroupedSampler


class EpochSampler(LengthGroupedSampler):
    """Rows of like length together, in an order of its own for each epoch.

    transformers draws that order from the process's random numbers, so a run that is stopped in its second epoch goes
    on in another order: some rows come twice and others never. Here `seed` and epoch decide, over the `rows_per_step`
    of all processes, so that as many GPUs as there may be see the same rows at the same step.
    """

    def __init__(self, lengths: Sequence[int], rows_per_step: int, seed: int) -> None:
        super().__init__(rows_per_step, lengths=[*lengths])
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch, also where it continues in the middle of one."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self.generator = torch.Generator().manual_seed(self.seed + self.epoch)
        return iter(super().__iter__())
