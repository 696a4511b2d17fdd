"""One process works while the others of its launch wait, however long it takes."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

# The launch's own group gives up after half an hour (ddp_timeout), which preparing a corpus may take. A process that
# dies is noticed at once all the same: gloo sees its connection close, and the launcher ends the others.
PATIENCE = timedelta(days=7)


@contextmanager
def first(is_first: bool) -> Iterator[None]:
    """Run the block in the process that `is_first`, then in the others. All processes of the launch must enter it.

    Whether there is work to do is decided inside the block: a process that came late and skipped it would answer the
    others' next collective with its own. Where the first process fails, the others go on and find out for themselves.
    """
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        yield
        return
    patient = dist.new_group(backend="gloo", timeout=PATIENCE)
    if not is_first:
        dist.barrier(patient)
    try:
        yield
    finally:
        if is_first:
            dist.barrier(patient)
