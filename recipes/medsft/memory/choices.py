"""What a plan or a run chooses for speed from what fits, each with its reason; a flag on the command line wins."""

from typing import TYPE_CHECKING, Unpack

from medsft.hardware.specs import Hardware
from medsft.memory.planner import format_gb, predict
from medsft.memory.step_config import StepSettings
from medsft.memory.strategies import STRATEGIES

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

ROOM = 0.92  # of a GPU's memory at the most: what is chosen for speed must not run out in the middle


def without_checkpointing(
    name: str, config: "PreTrainedConfig", here: Hardware, batch: int, length: int, **step: Unpack[StepSettings]
) -> str:
    """The reason to leave activation checkpointing out, which recomputes a third of the step; '' where it is needed.

    By the whole memory of a GPU, not by what is free: all processes must choose alike. Only where one process holds
    all: what a sharding engine keeps without checkpointing is not traced.
    """
    if not here.gpus or STRATEGIES[name].engine or not step.get("checkpointing", True):
        return ""
    changed: StepSettings = {**step, "checkpointing": False}
    needed = predict(name, config, here, batch, length, **changed)["device_bytes"]
    if needed > ROOM * here.device_bytes:
        return ""
    return f"{format_gb(needed)} of {format_gb(here.device_bytes)} without it, and a quarter less computing"


def lines(
    name: str, config: "PreTrainedConfig", here: Hardware, batch: int, length: int, **step: Unpack[StepSettings]
) -> list[str]:
    """What the run of a strategy will choose on this machine, as 'option value (reason)'."""
    if not here.gpus:
        return []
    reason = without_checkpointing(name, config, here, batch, length, **step)
    found = [f"activation_checkpointing false ({reason})"] if reason else []
    if here.ranks > 1 and STRATEGIES[name].optimizer != "none":
        found.append("--enable_cpu_affinity (each process on the cores beside its GPU: the optimizer runs on the host)")
    return [*found, "PYTORCH_ALLOC_CONF=expandable_segments:True (blocks grow instead of fragmenting)"]
