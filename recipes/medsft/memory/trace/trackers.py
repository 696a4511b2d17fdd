"""Count the memory of real PyTorch code that runs on fake tensors: shapes and lifetimes are real, storages are not.

Every operator passes through a dispatch mode that counts each storage once, from its first appearance until it is
freed. Nothing is computed, so a step of a 7B model is traced in seconds within half a gigabyte.
"""

import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.utils.weak import WeakIdKeyDictionary

from medsft.memory.trace.library_patches import READ_VALUE, TorchDispatchMode, tensors_in, workspace

CATEGORIES = ("weights", "gradients", "optimizer", "activations", "temporary")
CUDA_BLOCK = 512  # PyTorch's CUDA allocator rounds each request up to this many bytes

Peaks = dict[str, dict[str, int]]  # bytes by category at the peak of each stretch of a step
Memory = Literal["device", "host"]


class StorageTracker(TorchDispatchMode):
    """Counts live storages by category; keeps, for each named stretch of the step, the categories at its peak.

    New storages belong to `category` (set by the caller as the step goes on); `peaks[stretch]` sums to the peak of
    allocated bytes within that stretch.
    """

    def __init__(self, block: int = 1) -> None:
        super().__init__()
        self.block, self.category, self.stretch = block, "activations", "start"
        self.live = dict.fromkeys(CATEGORIES, 0)
        self.peaks: Peaks = {}
        self._highest: dict[str, int] = {}
        self._total = 0
        self._seen = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> object:
        out = func(*args, **(kwargs or {}))
        for tensor in tensors_in(out):
            self.count(tensor, self.category)
        # A kernel's own workspace exists during the call only.
        self._note(workspace(func, args) if self.block == CUDA_BLOCK else 0)
        return out

    def count(self, tensor: torch.Tensor, category: str) -> None:
        """Count the tensor's storage under `category`, unless it is counted already."""
        storage = tensor.untyped_storage()
        if storage in self._seen:
            return
        size = -(-storage.nbytes() // self.block) * self.block
        record = self._seen[storage] = _Record("device", size, category)
        self._total += size
        self.live[category] += size
        weakref.finalize(storage, self._free, record)

    def assign(self, tensors: Iterable[object], category: str) -> None:
        """Move the storages of `tensors` to `category`; what is no tensor is skipped."""
        for tensor in tensors:
            if not isinstance(tensor, torch.Tensor):
                continue
            self.count(tensor, category)
            record = self._seen[tensor.untyped_storage()]
            self.live[record.category] -= record.size
            record.category = category
            self.live[category] += record.size

    def enter(self, stretch: str) -> None:
        """The next stretch of the step begins."""
        self.stretch = stretch
        self._note(0)

    def _note(self, workspace: int) -> None:
        total = self._total + workspace
        if total > self._highest.get(self.stretch, -1):
            self._highest[self.stretch] = total
            self.peaks[self.stretch] = self.live | {"temporary": self.live["temporary"] + workspace}

    def _free(self, record: "_Record") -> None:
        self._total -= record.size
        self.live[record.category] -= record.size


class DeviceHostTracker(TorchDispatchMode):
    """Live bytes of DeepSpeed's engine by memory (device, host) and category, `pinned` of them page-locked.

    `rounding` is what torch's pinned allocator takes beyond the host's bytes: blocks of a power of two, kept after they
    are freed for requests of the same size.
    """

    def __init__(self) -> None:
        super().__init__()
        self.category, self.stretch, self.pinning = "other", "init", False
        self.live: dict[Memory, dict[str, int]] = {"device": {}, "host": {}}
        self.peaks: dict[Memory, Peaks] = {"device": {}, "host": {}}
        self.rounding = self.most_rounding = self.pinned = self.most_pinned = 0
        self._free_blocks: dict[int, int] = {}
        self._seen = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> object:
        out = func(*args, **(kwargs or {}))
        for tensor in tensors_in(out):
            self.count(tensor)
        return out

    def count(self, tensor: torch.Tensor) -> None:
        """Count the tensor's storage under the category in force, unless it is counted already or empty."""
        storage = tensor.untyped_storage()
        size = storage.nbytes()
        if storage in self._seen or size == 0:
            return
        on_device = tensor.device.type == "meta"
        if on_device:
            size = -(-size // CUDA_BLOCK) * CUDA_BLOCK
        pinned = not on_device and self.pinning
        record = self._seen[storage] = _Record("device" if on_device else "host", size, self.category, pinned)
        if pinned:
            block = _pinned_block(size)
            reused = self._free_blocks.get(block, 0) > 0
            self._free_blocks[block] = self._free_blocks.get(block, 0) - reused
            self.rounding += (0 if reused else block) - size
            self.pinned += size
        self._add(record.memory, self.category, size)
        weakref.finalize(storage, self._free, record)

    def assign(self, tensors: Iterable[torch.Tensor | None], category: str) -> None:
        """Move the storages of `tensors` to `category`; those that were never counted are skipped."""
        for tensor in tensors:
            if tensor is None or tensor.untyped_storage() not in self._seen:
                continue
            record = self._seen[tensor.untyped_storage()]
            self._add(record.memory, record.category, -record.size)
            record.category = category
            self._add(record.memory, category, record.size)

    def enter(self, stretch: str) -> None:
        """The next stretch of the step begins."""
        self.stretch = stretch
        self._note("device")
        self._note("host")

    def _add(self, memory: Memory, category: str, size: int) -> None:
        live = self.live[memory]
        live[category] = live.get(category, 0) + size
        if size > 0:
            self._note(memory)

    def _note(self, memory: Memory) -> None:
        peaks, live = self.peaks[memory], self.live[memory]
        if sum(live.values()) > sum(peaks.get(self.stretch, {"": -1}).values()):
            peaks[self.stretch] = dict(live)
        self.most_rounding = max(self.most_rounding, self.rounding)
        self.most_pinned = max(self.most_pinned, self.pinned)

    def _free(self, record: "_Record") -> None:
        self.live[record.memory][record.category] -= record.size
        if record.pinned:  # torch keeps the block: what was in use is now all overhead
            block = _pinned_block(record.size)
            self._free_blocks[block] = self._free_blocks.get(block, 0) + 1
            self.rounding += record.size
            self.pinned -= record.size


class PlaceholderScalars(TorchDispatchMode):
    """Answers `.item()` and `bool(tensor)` of fake tensors with a placeholder, so that code which asks can run on.

    `truth` answers conditions: True suits a training step, where they mostly let a branch happen (a dropout that keeps,
    tokens to average over); False suits checks for overflow.
    """

    def __init__(self, truth: bool) -> None:
        super().__init__()
        self.truth = truth

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> object:
        if func is READ_VALUE:
            dtype = args[0].dtype
            return self.truth if dtype == torch.bool else 0.5 if dtype.is_floating_point else 1
        return func(*args, **(kwargs or {}))


@dataclass
class _Record:
    memory: Memory
    size: int
    category: str
    pinned: bool = False


def _pinned_block(size: int) -> int:
    return 1 << (size - 1).bit_length()
