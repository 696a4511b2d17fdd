"""Count live bytes by place (device, host) and category while DeepSpeed's engine runs on fake tensors."""

import weakref
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from medsft.memory.trace.storage_tracker import CUDA_BLOCK


class PlaceTracker(TorchDispatchMode):
    """Live bytes by place and category, `pinned` of them page-locked.

    `rounding` is what torch's pinned allocator takes beyond the host's bytes: blocks of a power of two, kept after they
    are freed for requests of the same size.
    """

    def __init__(self) -> None:
        super().__init__()
        self.category, self.stretch, self.pinning = "other", "init", False
        self.live: dict[str, dict[str, int]] = {"device": {}, "host": {}}
        self.device: dict[str, dict[str, int]] = {}
        self.host: dict[str, dict[str, int]] = {}
        self.rounding = self.most_rounding = self.pinned = self.most_pinned = 0
        self._free_blocks: dict[int, int] = {}
        self._seen = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if hasattr(leaf, "untyped_storage"):
                self.count(leaf)
        return out

    def count(self, tensor: Any) -> None:
        storage = tensor.untyped_storage()
        if storage in self._seen or storage.nbytes() == 0:
            return
        place = "device" if tensor.device.type == "meta" else "host"
        size = storage.nbytes()
        if place == "device":
            size = -(-size // CUDA_BLOCK) * CUDA_BLOCK
        pinned = place == "host" and self.pinning
        record = self._seen[storage] = [place, size, self.category, pinned]
        if pinned:
            block = 1 << (size - 1).bit_length()
            reused = self._free_blocks.get(block, 0) > 0
            self._free_blocks[block] = self._free_blocks.get(block, 0) - reused
            self.rounding += (0 if reused else block) - size
            self.pinned += size
        self._add(place, self.category, size)
        weakref.finalize(storage, self._free, record)

    def assign(self, tensors: Any, category: str) -> None:
        for tensor in tensors:
            if tensor is None or tensor.untyped_storage() not in self._seen:
                continue
            record = self._seen[tensor.untyped_storage()]
            self._add(record[0], record[2], -record[1])
            record[2] = category
            self._add(record[0], category, record[1])

    def enter(self, stretch: str) -> None:
        self.stretch = stretch
        for place in ("device", "host"):
            self._note(place)

    def _add(self, place: str, category: str, size: int) -> None:
        live = self.live[place]
        live[category] = live.get(category, 0) + size
        if size > 0:
            self._note(place)

    def _note(self, place: str) -> None:
        peaks: dict[str, dict[str, int]] = getattr(self, place)
        live = self.live[place]
        if sum(live.values()) > sum(peaks.get(self.stretch, {"": -1}).values()):
            peaks[self.stretch] = dict(live)
        self.most_rounding = max(self.most_rounding, self.rounding)
        self.most_pinned = max(self.most_pinned, self.pinned)

    def _free(self, record: list[Any]) -> None:
        place, size, category, pinned = record
        self.live[place][category] -= size
        if pinned:  # torch keeps the block: what was in use is now all overhead
            block = 1 << (size - 1).bit_length()
            self._free_blocks[block] = self._free_blocks.get(block, 0) + 1
            self.rounding += size
            self.pinned -= size
