"""Several processes of one launch answer together: whose batches are whose, their part files, and waiting for all.

    accelerate launch --num_processes 2 recipes/generate.py ...

Each process has a GPU and the whole model, and appends to a part file of its own. They talk by gloo on the processor,
only to wait and to add numbers up.
"""

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from medsft.hardware.gpus import visible_gpus

PATIENCE = timedelta(days=7)  # the slowest process may be far behind; one that dies is noticed at once all the same
T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """This process's `number` among `count` of the launch."""

    number: int = 0
    count: int = 1

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

    def every(self, measure: Callable[[list[T]], list[float]]) -> Callable[[list[T]], list[float]]:
        """`measure` for this process's batches, by the number of the call; zeros for those of others, to be summed."""
        calls = itertools.count()

        def own(batch: list[T]) -> list[float]:
            mine = next(calls) % self.count == self.number
            return measure(batch) if mine else [0.0] * len(batch)

        return own


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


def join() -> Shard:
    """This process's share, once all processes of the launch are there; the whole where there is one process."""
    if not launched():
        return Shard()
    import torch

    torch.distributed.init_process_group("gloo", timeout=PATIENCE)
    return Shard(torch.distributed.get_rank(), torch.distributed.get_world_size())


def batches(
    rows: Sequence[int], size: int, is_done: Callable[[int], bool], shard: Shard, padded: bool
) -> Iterator[tuple[int, list[int]]]:
    """(position of its first row, rows) of each batch that this process still has to answer.

    Batches are cut from all `rows`, so they do not depend on what is done or on the number of processes. Rows that are
    `padded` together stay together: rounding in a batch depends on its width. Else each batch is dealt row by row.
    """
    starts = range(0, len(rows), size)
    if padded:
        left = [start for start in starts if not all(map(is_done, rows[start : start + size]))]
        for start in left[shard.number :: shard.count]:
            yield start, [*rows[start : start + size]]
        return
    for start in starts:
        own = [*rows[start : start + size]][shard.number :: shard.count]
        if not all(map(is_done, own)):
            yield start, own


def part_file(path: Path, digest: str, shard: Shard) -> Path:
    """Where this process appends its answers for `path`, of a run with the fingerprint `digest`."""
    number = "" if shard.is_first else f".{shard.number}"
    return path.with_name(f"{path.stem}.{digest}{number}.partial.jsonl")


def part_files(path: Path, digest: str) -> list[Path]:
    """Those of all processes, also of an earlier launch with more of them."""
    return sorted(path.parent.glob(f"{path.stem}.{digest}*.partial.jsonl"))
