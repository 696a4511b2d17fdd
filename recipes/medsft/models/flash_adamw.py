"""FlashAdamW of the package flashoptim: AdamW that keeps 24 bits of each bf16 weight, and moments in 8 bits.

Its kernels are Triton's, so it runs on NVIDIA GPUs only. Bytes of states a weight: 1 (the lower bits of the weight),
2 (the moments) and 2 float16 scales for 32 weights: 3.125. Ortiz et al. 2026 (arXiv 2602.23349).
"""

from importlib.util import find_spec
from typing import Any

import torch

from medsft.errors import UserError

GROUP = 32  # weights that share a scale of the library's
INSTALL = "pip install flashoptim==0.1.4"


def check() -> None:
    """Raise UserError where it cannot run."""
    if not find_spec("flashoptim"):
        raise UserError(f"flash_adamw: the package flashoptim is not installed; run: {INSTALL}")
    if not torch.cuda.is_available():
        raise UserError("flash_adamw: its kernels run on NVIDIA GPUs only; use --strategy full --flash_adamw false")


def make(groups: list[dict[str, Any]], rate: float, betas: tuple[float, float], epsilon: float) -> Any:
    """The library's optimizer of `groups` ({params, weight_decay} each)."""
    from flashoptim import FlashAdamW

    return FlashAdamW(groups, lr=rate, betas=betas, eps=epsilon)


class FlashStates(torch.optim.Optimizer):
    """Holds what FlashAdamW holds, for a trace: its kernel updates in place, without temporaries."""

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        super().__init__(groups, {})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Make the states of each weight, the first time."""
        for group in self.param_groups:
            for weight in group["params"]:
                if not self.state[weight]:
                    scales = -(-weight.numel() // GROUP)
                    self.state[weight] = {"error_bits": torch.empty_like(weight, dtype=torch.int8)} | {
                        f"{name}{part}": made
                        for name, kind in (("exp_avg", torch.int8), ("exp_avg_sq", torch.uint8))
                        for part, made in (
                            ("", torch.empty_like(weight, dtype=kind)),
                            ("_scales", weight.new_empty(scales, dtype=torch.float16)),
                        )
                    }
