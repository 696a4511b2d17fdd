"""How another engine's greedy answers differ from transformers' in float32: equal, or where and by how much."""

from collections.abc import Sequence
from typing import Any, NamedTuple


class Compared(NamedTuple):
    """`equal` of `n` answers; for each other one, how much less likely float32 finds the engine's first other token
    than its own, in nats."""

    n: int
    equal: int
    gaps: list[float]


def compare(
    network: Any, prompts: Sequence[list[int]], ours: Sequence[list[int]], theirs: Sequence[list[int]]
) -> Compared:
    gaps = [gap(network, *row) for row in zip(prompts, ours, theirs, strict=True) if row[1] != row[2]]
    return Compared(len(prompts), len(prompts) - len(gaps), gaps)


def gap(network: Any, prompt: list[int], ours: list[int], theirs: list[int]) -> float:
    import torch

    at = next((i for i, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), None)
    if at is None:  # one goes on where the other has ended
        return float("inf")
    with torch.inference_mode():
        logits = network(torch.tensor([[*prompt, *ours[:at]]])).logits[0, -1].float()
    return float(logits[ours[at]] - logits[theirs[at]])
