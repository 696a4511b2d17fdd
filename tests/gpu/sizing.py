"""How many layers of the study's model each row of the check trains: arithmetic, so that nothing is traced or loaded.

The script that a row starts makes the exact plan afterwards, and refuses what does not fit.
"""

from typing import NamedTuple

CONTEXT = 2_000_000_000  # bytes of a GPU that CUDA, other programs and the loss's logits take
FRACTION = 0.85  # of what is left: slack of the allocator, and an estimate that may be a tenth off
ADAPTERS = 16 * 16 * 14  # bytes a unit of width and layer: rank 16, float32 with gradients and two moments
RECOMPUTED, KEPT = 1, 50  # bf16 values a token and unit of width that a layer keeps for the backward pass
HOST = 26  # bytes a weight on the host: 16 to 20 of states and gradients, and the weights while they are loaded
PROCESS = 5_000_000_000  # bytes on the host of a process with CUDA's libraries
FEW = 4  # layers of the rows that offload or save: enough to gather and release, few enough for ten minutes
HELD = {"lora": 2.0, "qlora": 0.6}  # bytes a frozen weight of a layer


class Shape(NamedTuple):
    """Parameters of a layer and of all outside the layers, number of layers, width."""

    layer: int
    outside: int
    layers: int
    width: int

    def parameters(self, layers: int) -> int:
        return layers * self.layer + self.outside


MISTRAL_7B = Shape(218_112_000, 262_148_096, 32, 4096)


def bytes_held(states: float, dtype: str) -> float:
    """Bytes a weight in full fine-tuning: itself, gradient, states, and autocast's bf16 copy of a float32 one."""
    return (10 if dtype == "float32" else 4) + states


def layers_that_fit(shape: Shape, held: float, device: int, tokens: int) -> int:
    """Layers that train in `device` bytes with `tokens` in a micro-batch and `held` bytes a weight; 0 if none does."""
    activations = 2 * tokens * shape.width
    layer = held * shape.layer + RECOMPUTED * activations
    layer += ADAPTERS * shape.width if held in HELD.values() else 0
    working = KEPT * activations + 12 * tokens * 32_000  # one layer, and the logits
    left = FRACTION * (device - CONTEXT) - max(2, held) * shape.outside - working
    return max(0, min(shape.layers, int(left / layer)))


def layers_offloaded(shape: Shape, host: int) -> int:
    """Layers of the rows that offload to `host` bytes of free memory, with a fifth to spare; 0 if none fits."""
    return max(0, min(FEW, int(((0.8 * host - PROCESS) / HOST - shape.outside) / shape.layer)))


def flops_per_token(shape: Shape, layers: int, trains_all: bool) -> float:
    """Operations that the loss needs: 4 a weight, 6 where it is trained; without recomputation and embedding."""
    return (6 if trains_all else 4) * (layers * shape.layer + shape.outside / 2)
