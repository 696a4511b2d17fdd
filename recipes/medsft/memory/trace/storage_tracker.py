"""Count the memory of real PyTorch code run on fake tensors: shapes and lifetimes are real, storages are not.

Every operator passes through a dispatch mode that counts each storage once, from its first appearance until it is
freed. Nothing is computed, so a step of a 7B model is traced in seconds within half a gigabyte.
"""

import contextlib
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

CATEGORIES = ("weights", "gradients", "optimizer", "activations", "temporary")
CUDA_BLOCK = 512  # PyTorch's CUDA allocator rounds each request up to this many bytes
FUSED_NF4_TOKENS = 1536  # bitsandbytes on CUDA: from here on a 4-bit product unpacks the whole weight first


class StorageTracker(TorchDispatchMode):
    """Counts live storages by category; keeps, for each named stretch of the step, the categories at its peak.

    New storages belong to `category` (set by the caller as the step goes on); `peaks[stretch]` sums to the peak of
    allocated bytes within that stretch.
    """

    def __init__(self, block: int = 1) -> None:
        super().__init__()
        self.block, self.category, self.stretch = block, "activations", "start"
        self.live = dict.fromkeys(CATEGORIES, 0)
        self.peaks: dict[str, dict[str, int]] = {}
        self._highest: dict[str, int] = {}
        self._total = 0
        self._seen = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self.count(leaf, self.category)
        # A kernel's own workspace exists during the call only.
        self._note(_workspace(func, args) if self.block == CUDA_BLOCK else 0)
        return out

    def count(self, tensor: torch.Tensor, category: str) -> None:
        """Count the tensor's storage under `category`, unless it is counted already."""
        storage = tensor.untyped_storage()
        if storage in self._seen:
            return
        size = -(-storage.nbytes() // self.block) * self.block
        record = self._seen[storage] = [size, category]
        self._total += size
        self.live[category] += size
        weakref.finalize(storage, self._free, record)

    def assign(self, tensors: Iterable[Any], category: str) -> None:
        """Move the storages of `tensors` to `category`; what is no tensor is passed over."""
        for tensor in tensors:
            if not isinstance(tensor, torch.Tensor):
                continue
            self.count(tensor, category)
            record = self._seen[tensor.untyped_storage()]
            self.live[record[1]] -= record[0]
            record[1] = category
            self.live[category] += record[0]

    def enter(self, stretch: str) -> None:
        self.stretch = stretch
        self._note(0)

    def _note(self, workspace: int) -> None:
        total = self._total + workspace
        if total > self._highest.get(self.stretch, -1):
            self._highest[self.stretch] = total
            self.peaks[self.stretch] = self.live | {"temporary": self.live["temporary"] + workspace}

    def _free(self, record: list[Any]) -> None:
        self._total -= record[0]
        self.live[record[1]] -= record[0]


class PlaceholderScalars(TorchDispatchMode):
    """Answers `.item()` and `bool(tensor)` of fake tensors with a placeholder, so that code which asks can run on.

    `truth` answers conditions: True suits a training step, where they mostly let a branch happen (a dropout that keeps,
    tokens to average over); False suits checks for overflow.
    """

    def __init__(self, truth: bool) -> None:
        super().__init__()
        self.truth = truth

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            dtype = args[0].dtype
            return self.truth if dtype == torch.bool else 0.5 if dtype.is_floating_point else 1
        return func(*args, **(kwargs or {}))


def fake_tensors() -> FakeTensorMode:
    return FakeTensorMode(allow_non_fake_inputs=True)


def materialize(model: torch.nn.Module) -> None:
    """Replace meta parameters and buffers by ones of the fake mode in force, in place; tied ones stay tied.

    `Module.to_empty` would swap tensors, which fake tensors refuse.
    """
    made: dict[int, tuple[Any, Any]] = {}  # the old one is kept alive, or its id would be used again
    for module in model.modules():
        for store in (module._parameters, module._buffers):
            for name, old in list(store.items()):
                if old is None or old.device.type != "meta":
                    continue
                if id(old) not in made:
                    new: Any = torch.empty(old.shape, dtype=old.dtype, device="cpu")
                    if isinstance(old, torch.nn.Parameter):
                        new = torch.nn.Parameter(new, requires_grad=old.requires_grad)
                    made[id(old)] = (new, old)
                store[name] = made[id(old)][0]  # type: ignore[assignment]


@contextlib.contextmanager
def replaced(*patches: tuple[Any, str, Any]) -> Iterator[None]:
    """Within the block, attribute `name` of `owner` is `value`, for each (owner, name, value)."""
    with contextlib.ExitStack() as stack:
        for owner, name, value in patches:
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)
        yield


def _workspace(func: Any, args: Any) -> int:
    """Bytes that bitsandbytes' fused 4-bit product unpacks the weight into, which no dispatched operator shows."""
    if "gemm_4bit" not in str(func) or args[0].numel() // args[0].shape[-1] <= FUSED_NF4_TOKENS:
        return 0
    return args[2][0] * args[2][1] * args[0].element_size()
