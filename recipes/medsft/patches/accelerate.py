"""accelerate: DeepSpeed is imported by those that use it."""

import sys

from accelerate.utils import other


def unwrap_without_deepspeed() -> None:
    """Let accelerate look for DeepSpeed's engine only where DeepSpeed is imported: elsewhere no model is inside one.

    To unwrap any model it imports DeepSpeed wherever that is installed: 410 modules, 1.5 s of processor time.
    """
    other.is_deepspeed_available = lambda: "deepspeed" in sys.modules
