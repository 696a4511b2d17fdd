"""One process works while the others of its launch wait, however long it takes."""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

PATIENCE = timedelta(days=7)  # a process that dies is noticed at once all the same: the launcher ends the others
_uses = itertools.count()


@contextmanager
def first(is_first: bool) -> Iterator[None]:
    """Run the block in the process that `is_first` on its machine, then in those that are not.

    All processes of the launch enter it, in the same order of blocks. They wait on the launch's key-value store: a
    barrier gives up after half an hour (ddp_timeout), which preparing a corpus may take, and a process that came late
    could answer it with another collective. Whether there is work to do is decided inside the block. Where the first
    process fails, the others go on and find out for themselves.
    """
    import torch.distributed as dist

    use = next(_uses)
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        yield
        return
    store = dist.distributed_c10d._get_default_store()
    key = f"medsft/{use}/{os.environ.get('GROUP_RANK', '0')}"  # the machine's number, from the launcher
    if not is_first:
        store.wait([key], PATIENCE)
    try:
        yield
    finally:
        if is_first:
            store.set(key, "done")
