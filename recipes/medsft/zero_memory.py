"""From a strategy to its traces, and from the traces to bytes by category on one device and on the host."""

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from medsft.hardware import Hardware
from medsft.ladder import Method
from medsft.memory import LIVE_PARAMETERS, NVME_BUFFERS
from medsft.sizes import Sizes

if TYPE_CHECKING:
    from medsft.traced_step import Peaks, Step

Bytes = dict[str, int]
Growth = list[tuple[int, int]]
DEVICE = ("weights", "gradients", "optimizer", "activations", "temporary")


def bytes_of_strategies(
    methods: dict[str, Method],
    config: Any,
    sizes: Sizes,
    hardware: Hardware,
    batch: int,
    length: int,
    settings: dict[str, Any],
    with_growth: bool,
) -> dict[str, tuple[Bytes, Bytes, Growth]]:
    """{name: (bytes of one device, bytes of the host, growth)} at the peak, without process, context and slack.

    Growth, where asked for: (bytes now, bytes a further row adds) for each stretch of the step on the device.
    """
    from medsft.trace_cache import traced
    from medsft.traced_step import Step, highest

    on_cpu = hardware.gpus == 0
    base = Step(batch=batch, length=length, on_gpu=not on_cpu)
    steps = {n: _step(replace(base, **settings), m) for n, m in methods.items() if not m.zero}
    # One plain step of full fine-tuning tells what each layer keeps between its forward and its backward.
    kept = _step(replace(base, **settings), Method({"autocast": False}))
    engines = {n: _engine(m, sizes, kept, hardware) for n, m in methods.items() if m.zero}
    wanted = [*steps.values(), *([kept] if engines else [])]
    doubled = [replace(step, batch=2 * batch) for step in wanted] if with_growth else []
    peaks, results = traced(config, sizes.uniform, [*wanted, *doubled], list(engines.values()))
    growths = [_growth(a, b, batch) for a, b in zip(peaks, peaks[len(wanted) :], strict=False)] or [[]] * len(wanted)
    found: dict[str, tuple[Bytes, Bytes, Growth]] = {}
    for name, stretches, growth in zip(steps, peaks, growths, strict=False):
        device = highest(stretches)[1]
        if hardware.gpus > 1:  # DistributedDataParallel's buckets are a second copy of the gradients
            device["temporary"] += device["optimizer"] // 2
        found[name] = device, _paged(steps[name], device), growth
    for (name, engine), result in zip(engines.items(), results, strict=True):
        per_layer = _kept_per_layer(peaks[len(wanted) - 1], sizes)
        device, host = _sharded(methods[name], result, engine, per_layer, sizes, hardware)
        # The engine's buffers stay as they are: what grows is what grows in a plain step.
        growth = [(sum(device.values()), max(per_row for _, per_row in growths[-1]))] if growths[-1] else []
        found[name] = device, host, growth
    return {name: found[name] for name in methods}


def _step(step: "Step", method: Method) -> "Step":
    """The strategy's own settings, unless the recipe said otherwise for what a strategy may leave open."""
    return replace(step, **method.step)


def _engine(method: Method, sizes: Sizes, step: "Step", hardware: Hardware) -> dict[str, Any]:
    from medsft.offload import zero_settings

    ranks = max(1, hardware.gpus)
    optimizer, parameters = ("none" if place == "none" else "cpu" for place in method.zero)
    gathering = parameters == "cpu" or ranks > 1
    layers = math.ceil(LIVE_PARAMETERS / sizes.layer) + 2 if gathering else 2
    # Without a GPU the buckets are in the memory that NVMe offload is to save: as the run sets them.
    tight = method.zero[0] == "nvme" and not step.on_gpu
    return {
        **({"buffers": zero_settings(sizes, hardware.host_bytes, ranks)} if tight else {}),
        "ranks": ranks,
        "optimizer": optimizer,
        "parameters": parameters,
        "bf16_states": method.bf16_states,
        "batch": step.batch,
        "length": step.length,
        "checkpointing": step.checkpointing,
        "on_gpu": step.on_gpu,
        "layers": min(sizes.layers, max(2, layers)),
    }


def _growth(once: "Peaks", twice: "Peaks", batch: int) -> Growth:
    """Memory is a linear function of the rows in each stretch, but for tiles of the loss, which stop growing."""
    totals = [(sum(once[s].values()), sum(twice[s].values())) for s in once]
    return [(now, max(0, then - now) // batch) for now, then in totals]


def _kept_per_layer(peaks: "Peaks", sizes: Sizes) -> int:
    """Bytes that one more layer adds to what waits for the backward pass."""
    start = peaks["backward/loss"]["activations"] - peaks["forward/first"]["activations"]
    return max(0, start) // max(1, sizes.layers - 1)


def _sharded(
    method: Method, result: dict[str, Any], engine: dict[str, Any], per_layer: int, sizes: Sizes, hardware: Hardware
) -> tuple[Bytes, Bytes]:
    """The engine's bytes of one device, and of the host by all ranks on it; the save gathers 16-bit weights there."""
    from medsft.offload import zero_settings

    ranks = max(1, hardware.gpus)
    device = dict.fromkeys(DEVICE, 0)
    for category, size in result["device"].items():
        device[category if category in DEVICE else "temporary"] += size
    device["activations"] += per_layer * (sizes.layers - engine["layers"])
    host = {c: size * ranks for c, size in result["host"].items() if size and c != "temporary"}
    host["temporary"] = result["host"].get("temporary", 0) * ranks
    if method.zero[0] == "nvme":
        # Master copy, moments and gradients are on the disk; swap buffers and the accumulated gradient stay.
        # Tensors are not cut: the embedding may come on top of a sub-group that is almost full.
        group = zero_settings(sizes, hardware.host_bytes, ranks)["sub_group_size"] + sizes.vocabulary * sizes.hidden
        group = min(group, result["largest_group"])
        host["optimizer"] = NVME_BUFFERS * 4 * group * ranks
        host["temporary"] = min(host["temporary"], 4 * group * ranks)
        host["gradients"] = 2 * sizes.parameters
    host["save"] = 2 * sizes.parameters
    host["pinned_rounding"] = result["pinned_rounding"] * ranks if method.zero[0] == "cpu" else 0
    return device, host


def _paged(step: "Step", device: Bytes) -> Bytes:
    """Paged optimizer states may move to the host under pressure, so it must have room for them."""
    return {"optimizer": device["optimizer"]} if "paged" in step.optimizer and step.on_gpu else {}
