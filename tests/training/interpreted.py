"""Run a script with FlashAdamW's kernels in Triton's interpreter: `python interpreted.py sft_full.py --config ...`.

What stands in for CUDA is local to flashoptim and to Triton's autotuner; the Trainer sees a processor.
"""

import contextlib
import os
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

os.environ["TRITON_INTERPRET"] = "1"

import torch  # noqa: E402
import triton.language as tl  # noqa: E402
from flashoptim import optimizers  # noqa: E402
from triton import Config  # noqa: E402
from triton.runtime.autotuner import Autotuner  # noqa: E402

from medsft.models import flash_adamw  # noqa: E402


def on_a_processor(function):  # type: ignore[no-untyped-def]
    """`function` sees tensors that say they are on a GPU."""

    def call(*args, **kwargs):  # type: ignore[no-untyped-def]
        with contextlib.ExitStack() as stack:
            stack.enter_context(patch.object(torch.Tensor, "is_cuda", True))
            for name, value in CUDA.items():
                stack.enter_context(patch.object(torch.cuda, name, value))
            return function(*args, **kwargs)

    return call


CUDA = {
    "is_available": lambda: True,
    "device": lambda *_: contextlib.nullcontext(),
    "current_device": lambda: 0,
    "get_device_properties": lambda *_: SimpleNamespace(multi_processor_count=4),
}
# the interpreter has no libdevice, and nothing to time
optimizers.libdevice = SimpleNamespace(
    pow=lambda base, power: tl.exp(power * tl.log(base)),
    copysign=lambda size, sign: tl.where(sign < 0, -tl.abs(size), tl.abs(size)),
)
for kernel in vars(optimizers).values():
    if isinstance(
        kernel, Autotuner
    ):  # one large block a program: each costs the interpreter as much, whatever its size
        kernel.configs = [Config({"BLOCK_SIZE_N": 1 << 16})]
for name in ("__init__", "step", "state_dict", "load_state_dict"):
    setattr(optimizers.FlashOptimizer, name, on_a_processor(getattr(optimizers.FlashOptimizer, name)))
flash_adamw.check = lambda: None

if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    sys.path.insert(0, str(Path(sys.argv[0]).parent))
    runpy.run_path(sys.argv[0], run_name="__main__")
