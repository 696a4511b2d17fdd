"""One process works or decides while the others of its launch wait, however long it takes."""

import itertools
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from medsft.errors import UserError

if TYPE_CHECKING:
    from torch.distributed import Store

PATIENCE = timedelta(days=7)  # a process that dies is noticed at once all the same: the launcher ends the others
T = TypeVar("T")
_uses = itertools.count()


@contextmanager
def first(is_first: bool) -> Iterator[None]:
    """Run the block in the process that `is_first` on the first machine, then in those of the other machines, then in
    the rest: what the first one writes is there for all that share its disk, and is not written twice.

    All processes of the launch enter it, in the same order of blocks. They wait on the launch's key-value store: a
    barrier gives up after half an hour (ddp_timeout), which preparing a corpus may take, and a process that came late
    could answer it with another collective. Whether there is work to do is decided inside the block. Where the first
    process fails, the others go on and find out for themselves.
    """
    store, use = _store(), next(_uses)
    if store is None:
        yield
        return
    machine = int(os.environ.get("GROUP_RANK", "0"))  # from the launcher
    if not is_first:
        store.wait([f"medsft/{use}/{machine}"], PATIENCE)
    elif machine:
        store.wait([f"medsft/{use}/0"], PATIENCE)
    try:
        yield
    finally:
        if is_first:
            store.set(f"medsft/{use}/{machine}", "done")


def decided(is_main: bool, decide: Callable[[], T]) -> T:
    """What the main process decides, the same in all processes of the launch, whatever each finds on its own disk.

    The value travels as JSON. Where `decide` fails, the main process raises its error and the others a UserError.
    """
    store, use = _store(), next(_uses)
    if store is None:
        return decide()
    key = f"medsft/{use}"
    if is_main:
        said = ""
        try:
            value = decide()
            said = json.dumps([value])
        finally:
            store.set(key, said)
        return value
    store.wait([key], PATIENCE)
    said = store.get(key).decode()
    if not said:
        raise UserError("the first process of this launch stopped; its own line says why")
    found: T = json.loads(said)[0]
    return found


def _store() -> "Store | None":
    """The launch's key-value store; None where there is one process."""
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return None
    return dist.distributed_c10d._get_default_store()
