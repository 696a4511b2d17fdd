"""Whose rows are whose: shares of a job, which know nothing of each other, and in each the processes of one launch.

    accelerate launch --num_processes 2 recipes/generate.py ...               # two processes
    accelerate launch --num_processes 2 recipes/generate.py ... --shard 3 --shards 8     # the fourth of eight shares

Each process has a GPU and the whole model. Those of a launch talk by gloo on the processor, only to wait and to add
numbers up. What a share answers depends on its number alone, so one can start, end or be lost at any time.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from medsft.errors import UserError
from medsft.hardware.gpus import visible_gpus

PATIENCE = timedelta(days=7)  # the slowest process may be far behind; one that dies is noticed at once all the same


@dataclass(frozen=True)
class Shard:
    """This process's `number` among `count` of the launch, which answers `share` among `shares` of the rows."""

    number: int = 0
    count: int = 1
    share: int = 0
    shares: int = 1

    @property
    def is_first(self) -> bool:
        return self.number == 0

    def wait(self) -> None:
        """Return when all processes have come here."""
        if self.count > 1:
            import torch

            torch.distributed.barrier()

    def total(self, values: Sequence[float]) -> list[float]:
        """The sums of `values`, as many in each process, over all of them; in float64."""
        if self.count == 1 or not values:
            return [*values]
        import torch

        sums = torch.tensor(values, dtype=torch.float64)
        torch.distributed.all_reduce(sums)
        return [float(value) for value in sums.tolist()]


def launched() -> bool:
    """Whether a launcher started several processes."""
    return "LOCAL_RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def keep_one_gpu() -> None:
    """Let this process see one of the GPUs only, so that every library uses it; before any of them looks for GPUs."""
    if not launched() or not (count := visible_gpus()[1]):
        return
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [name.strip() for name in named.split(",")] if named else [str(index) for index in range(count)]
    os.environ["CUDA_VISIBLE_DEVICES"] = names[int(os.environ["LOCAL_RANK"]) % len(names)]


def check(share: int, shares: int) -> None:
    """Raise UserError for a share that does not exist."""
    if shares < 1:
        raise UserError(f"shards {shares}: give how many shares there are, a whole number from 1")
    if not 0 <= share < shares:
        raise UserError(f"shard {share}: give a whole number from 0 to {shares - 1}, as there are {shares} shards")


def join(share: int = 0, shares: int = 1) -> Shard:
    """This process's part of a share, once all processes of the launch are there."""
    if not launched():
        return Shard(share=share, shares=shares)
    import torch

    torch.distributed.init_process_group("gloo", timeout=PATIENCE)
    return Shard(torch.distributed.get_rank(), torch.distributed.get_world_size(), share, shares)


def batches(
    rows: Sequence[int], size: int, is_done: Callable[[int], bool], shard: Shard, padded: bool
) -> Iterator[list[int]]:
    """The rows of each batch that this process still has to answer.

    Batches are cut from all `rows`, so they do not depend on what is done or on the number of processes. Rows that are
    `padded` together stay together: rounding in a batch depends on its width. Else each batch is dealt row by row.
    A share's batches do not depend on what is done either; the processes of a launch share what is left of them.
    """
    starts = range(0, len(rows), size)
    if padded:
        own = starts[shard.share :: shard.shares]
        left = [start for start in own if not all(map(is_done, rows[start : start + size]))]
        for start in left[shard.number :: shard.count]:
            yield [*rows[start : start + size]]
        return
    for start in starts:
        mine = [*rows[start : start + size]][shard.share :: shard.shares][shard.number :: shard.count]
        if not all(map(is_done, mine)):
            yield mine
