"""What a plan or a run chooses for speed from what fits, each with its reason; a flag on the command line wins."""

from typing import TYPE_CHECKING, NamedTuple, Unpack

from medsft.hardware.specs import Hardware
from medsft.memory.planner import format_gb, predict
from medsft.memory.step_config import StepSettings
from medsft.memory.step_time import FRACTION_OF_PEAK
from medsft.memory.strategies import STRATEGIES
from medsft.models.parameter_counts import count_parameters

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

ROOM = 0.92  # of a GPU's memory at the most: what is chosen for speed must not run out in the middle
# Seconds to launch the kernels of one pass (forward, recomputation, half of backward) through one layer: with 32
# layers, recomputation and 1,100 tokens a micro-batch an H200 took 0.60 s with adapters and 0.35 s without; by
# arithmetic 0.1 s.
LAUNCH_ADAPTERS, LAUNCH_FULL = 4.7e-3, 2.7e-3
TFLOPS = 100.0  # of a GPU whose peak is not known


class Choice(NamedTuple):
    """Rows of a micro-batch and whether activations are recomputed. `reason` is '' where it is the recipe's own."""

    batch: int
    checkpointing: bool
    reason: str


def fastest(
    name: str, config: "PreTrainedConfig", here: Hardware, choices: list[tuple[int, bool]], share: int, length: int,
    mean: float, **step: Unpack[StepSettings],
) -> Choice:  # fmt: skip
    """The fastest of `choices` that fits; the first is the recipe's own, and is kept where no other fits.

    `share`: rows of a process in one optimizer step; `length` and `mean`: tokens of the longest and of an average row.
    By the whole memory of a GPU, not by what is free: all processes must choose alike. Only where one process holds
    all: what a sharding engine keeps without checkpointing is not traced.
    """
    own = choices[0]
    if here.gpus and not STRATEGIES[name].engine:
        parameters, layers = count_parameters(config), config.get_text_config().num_hidden_layers

        def seconds(choice: tuple[int, bool]) -> float:
            return step_seconds(name, parameters, layers, here, *choice, share, mean)

        for batch, checkpointing in sorted(choices, key=seconds):
            if (batch, checkpointing) == own:
                break
            changed: StepSettings = {**step, "checkpointing": checkpointing, "accumulates": share > batch}
            needed = predict(name, config, here, batch, length, **changed)["device_bytes"]
            if needed <= ROOM * here.device_bytes:
                gain = 1 - seconds((batch, checkpointing)) / seconds(own)
                reason = f"{format_gb(needed)} of {format_gb(here.device_bytes)}, and about {gain:.0%} less time a step"
                return Choice(batch, checkpointing, reason)
    return Choice(*own, "")


def step_seconds(
    name: str, parameters: int, layers: int, here: Hardware, batch: int, checkpointing: bool, share: int, mean: float
) -> float:
    """Seconds of an optimizer step on one GPU: of each micro-batch the slower of launching its kernels and computing.

    2 operations a token and weight forward, 2 for the gradient of the activations, 2 for a trained weight's, 2 where
    activations are recomputed.
    """
    full = STRATEGIES[name].trains_all
    launching = layers * (LAUNCH_FULL if full else LAUNCH_ADAPTERS) * (3 + checkpointing)
    operations = (4 + 2 * full + 2 * checkpointing) * parameters * batch * mean
    return share / batch * max(launching, operations / (FRACTION_OF_PEAK * (here.tflops or TFLOPS) * 1e12))


def candidates(batch: int, checkpointing: bool, share: int, grows: bool, leaves_out: bool) -> list[tuple[int, bool]]:
    """(rows, recomputes) that a run may choose from, its recipe's own first: larger micro-batches of the same step
    where it `grows`, without recomputation where it `leaves_out`.
    """
    sizes = [size for size in divisors(share) if size > batch] if grows else []
    kinds = [False, True] if checkpointing and leaves_out else [checkpointing]
    own = (batch, checkpointing)
    return [own, *(pair for size in [*sizes, batch] for kind in kinds if (pair := (size, kind)) != own)]


def divisors(rows: int) -> list[int]:
    """Micro-batches that make up `rows` exactly, largest first."""
    return [size for size in range(rows, 0, -1) if rows % size == 0]


def lines(
    name: str, config: "PreTrainedConfig", here: Hardware, batch: int, share: int, length: int,
    **step: Unpack[StepSettings],
) -> list[str]:  # fmt: skip
    """What the run of a strategy will choose on this machine, as 'option value (reason)'."""
    if not here.gpus:
        return []
    recomputes = step.get("checkpointing", True)
    pairs = candidates(batch, recomputes, share, True, True)
    found = worded(fastest(name, config, here, pairs, share, length, length, **step), batch, recomputes)
    if here.ranks > 1 and STRATEGIES[name].optimizer != "none":
        found.append("--enable_cpu_affinity (each process on the cores beside its GPU: the optimizer runs on the host)")
    return [*found, "PYTORCH_ALLOC_CONF=expandable_segments:True (blocks grow instead of fragmenting)"]


def worded(choice: Choice, batch: int, checkpointing: bool) -> list[str]:
    """The choice as the options it sets, with its reason; [] where it is the recipe's own."""
    if not choice.reason:
        return []
    options = [f"per_device_train_batch_size {choice.batch}"] if choice.batch != batch else []
    options += ["activation_checkpointing false"] if choice.checkpointing != checkpointing else []
    return [f"{', '.join(options)} ({choice.reason})"]
