"""From a strategy to its traces, and from the traces to bytes by category on one device and on the host."""

import math
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, cast

from medsft.distributed.deepspeed_config import zero_settings
from medsft.errors import UserError
from medsft.hardware.specs import Hardware
from medsft.memory.step_config import EngineConfig, EnginePeaks, StepConfig, StepSettings
from medsft.memory.strategies import Strategy
from medsft.models.parameter_counts import Sizes

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from medsft.memory.trace.trackers import Peaks

LIVE_PARAMETERS = 1_000_000_000  # ZeRO-3 gathers at most so many at one time (stage3_max_live_parameters)
NVME_BUFFERS = 4  # fp32 copies of the largest sub-group in host memory that DeepSpeed's swapper keeps
BYTES = {"float32": 4, "float16": 2}  # a weight
DEVICE = ("weights", "gradients", "optimizer", "activations", "temporary")

Bytes = dict[str, int]  # by category
Growth = list[tuple[int, int]]  # (bytes now, bytes a further row adds) for each stretch of the step on the device


class StrategyBytes(NamedTuple):
    """Bytes of one device and of the host at the peak, without process, context and slack."""

    device: Bytes
    host: Bytes
    growth: Growth


def bytes_of_strategies(
    chosen: dict[str, Strategy],
    config: "PreTrainedConfig",
    sizes: Sizes,
    hardware: Hardware,
    batch: int,
    length: int,
    settings: StepSettings,
    with_growth: bool,
) -> dict[str, StrategyBytes | UserError]:
    """The peaks of the chosen strategies by name, or why there are none. Growth is [] where it is not asked for.

    `settings`: what a recipe decides; it wins over the strategy's own.
    """
    from medsft.memory.trace.cache import traced

    base = StepConfig(batch=batch, length=length, on_gpu=hardware.gpus > 0)
    steps = {n: _step_of(m, base, settings) for n, m in chosen.items() if not m.engine}
    sharded = {n: m for n, m in chosen.items() if m.engine}
    # One plain step of full fine-tuning tells what each layer keeps between its forward and its backward.
    kept = replace(replace(base, **settings), dtype="bfloat16", autocast=False, optimizer=StepConfig.optimizer)
    engines = {n: engine_config(m, sizes, kept, hardware) for n, m in sharded.items() if m.engine != "fsdp2"}
    wanted = [*steps.values(), *([kept] if sharded else [])]
    # What a row adds is the same under every optimizer: two traces tell it for all steps that differ in nothing else.
    alike = list({_with_any_optimizer(step): None for step in wanted}) if with_growth else []
    pairs = [replace(step, batch=rows) for step in alike for rows in (batch, 2 * batch)]
    peaks, engine_peaks = traced(config, sizes.uniform, [*wanted, *pairs], list(engines.values()))
    more = peaks[len(wanted) :]
    added = {step: _per_row(a, b, batch) for step, a, b in zip(alike, more[::2], more[1::2], strict=True)}
    growths = [_growth(found, added.get(_with_any_optimizer(step))) for step, found in zip(wanted, peaks, strict=False)]
    found: dict[str, StrategyBytes | UserError] = {
        name: stretches
        if isinstance(stretches, UserError)
        else _of_one_process(step, stretches, growth, sizes, hardware)
        for (name, step), stretches, growth in zip(steps.items(), peaks, growths, strict=False)
    }
    results = dict(zip(engines, engine_peaks, strict=True))
    for name, strategy in sharded.items():
        plain, growth, result = peaks[len(wanted) - 1], growths[-1], results.get(name)
        if isinstance(plain, UserError) or isinstance(result, UserError):
            found[name] = plain if isinstance(plain, UserError) else cast(UserError, result)
            continue
        if result is None:  # FSDP2
            device, host = fsdp2_bytes(sizes, plain, hardware.ranks)
            host = {c: size if c == "save" else size // hardware.nodes for c, size in host.items()}
        else:
            per_layer = _kept_per_layer(plain, sizes)
            device, host = _engine_bytes(strategy, result, engines[name], per_layer, sizes, hardware)
        # The engine's buffers stay as they are: what grows is what grows in a plain step.
        grows = [(sum(device.values()), max(per_row for _, per_row in growth))] if growth else []
        found[name] = StrategyBytes(device, host, grows)
    return {name: found[name] for name in chosen}


def _step_of(strategy: Strategy, base: StepConfig, settings: StepSettings) -> StepConfig:
    changed: StepSettings = {**strategy.step, **settings}
    return replace(base, **changed)


def _with_any_optimizer(step: StepConfig) -> StepConfig:
    return replace(step, optimizer=StepConfig.optimizer)


def _of_one_process(
    step: StepConfig, peaks: "Peaks", growth: Growth, sizes: Sizes, hardware: Hardware
) -> StrategyBytes:
    """Without sharding; on the host what the processes of one machine need together."""
    from medsft.memory.trace.step import highest

    device, processes = highest(peaks)[1], max(1, hardware.gpus)
    host: Bytes = {}
    if hardware.ranks > 1:  # DistributedDataParallel's buckets are a second copy of the gradients
        device["temporary"] += most_gradients(peaks)
    if "paged" in step.optimizer and step.on_gpu:  # the states may move to the host, which must have room for them
        host["optimizer"] = device["optimizer"] * processes
    if hardware.ranks > 1 and step.on_gpu and step.method != "qlora" and step.dtype != "bfloat16":
        # each process converts the checkpoint's weights on the host; before there are states
        loaded = BYTES[step.dtype] * sizes.parameters * processes
        host["loading"] = max(0, loaded - host.get("optimizer", 0))
    return StrategyBytes(device, host, growth)


def most_gradients(peaks: "Peaks") -> int:
    """Bytes of the gradients of all trained weights: what is there when they are clipped."""
    return max(peak["gradients"] for peak in peaks.values())


def fsdp2_bytes(sizes: Sizes, plain: "Peaks", ranks: int) -> tuple[Bytes, Bytes]:
    """PyTorch's FSDP2 with CPUOffloadPolicy and bf16 arithmetic, by arithmetic over its buffers, not traced.

    On the device, the root's weights (embeddings and head) gathered in bf16 and the larger of two moments: within the
    layers two of them gathered (the next one is prefetched) and one in fp32, its shard on the way in or its reduced
    gradients on the way out; around the loss one layer, and the root's gradients in fp32. bf16 gradients are among the
    temporary tensors of the plain step. Four layers of Mistral-7B: 4.1 GB; an H200 allocated 3.8.
    On the host, fp32: weights and gradients (pinned, each tensor its own block) and two moments.
    torch/distributed/fsdp/_fully_shard/_fsdp_param_group.py and _fsdp_collectives.py (2.13).
    """
    layer, root = sizes.layer, sizes.root
    moments: list[Bytes] = []
    for stretch, live in plain.items():
        if stretch.startswith(("forward", "backward")):
            inside = stretch.endswith(("first", "inner", "last"))
            gathered, moving = (2 * layer, layer) if inside else (layer, root)
            kept = {name: max(0, live[name]) for name in ("activations", "temporary")}
            held = {"weights": 2 * (root + gathered), "gradients": 4 * moving // ranks}
            moments.append(dict.fromkeys(DEVICE, 0) | held | kept)
    device = max(moments, key=lambda moment: sum(moment.values()))
    n = sizes.parameters
    blocks = sum(1 << (4 * size // ranks - 1).bit_length() for size in sizes.tensors if size >= ranks)
    host = {"weights": 4 * n, "gradients": 4 * n, "optimizer": 8 * n, "save": 4 * n}
    host["pinned"], host["pinned_rounding"] = 8 * n, 2 * max(0, blocks * ranks - 4 * n)
    return device, host


def engine_config(strategy: Strategy, sizes: Sizes, step: StepConfig, hardware: Hardware) -> EngineConfig:
    """The dry run for a strategy of DeepSpeed; states on NVMe are traced as if they were on the host."""
    ranks = hardware.ranks
    optimizer, parameters = ("none" if kept == "none" else "cpu" for kept in (strategy.optimizer, strategy.parameters))
    gathering = strategy.engine == "zero3" and (parameters == "cpu" or ranks > 1)
    live = LIVE_PARAMETERS * sizes.layers / (sizes.parameters - sizes.root)  # in layers
    layers = math.ceil(live) + 2 if gathering else 2
    # Without a GPU the buckets are in the memory that NVMe offload is to save: as the run sets them.
    tight = strategy.optimizer == "nvme" and not step.on_gpu
    return {
        "stage": 2 if strategy.engine == "zero2" else 3,
        "device": "meta",
        "zero": zero_settings(sizes, hardware.host_bytes, ranks) if tight else {},
        "ranks": ranks,
        "optimizer": optimizer,
        "parameters": parameters,
        "bf16_states": strategy.bf16_states,
        "batch": step.batch,
        "length": step.length,
        "checkpointing": step.checkpointing,
        "on_gpu": step.on_gpu,
        "layers": min(sizes.layers, max(2, layers)),
    }


def _per_row(once: "Peaks | UserError", twice: "Peaks | UserError", batch: int) -> Bytes:
    """Memory is a linear function of the rows in each stretch, but for tiles of the loss, which stop growing."""
    if isinstance(once, UserError) or isinstance(twice, UserError):
        return {}
    return {s: max(0, sum(twice[s].values()) - sum(once[s].values())) // batch for s in once}


def _growth(peaks: "Peaks | UserError", added: Bytes | None) -> Growth:
    """(bytes now, bytes a further row adds) for each stretch; nothing where no growth was asked for."""
    if isinstance(peaks, UserError):
        return []
    return [(sum(peaks[stretch].values()), more) for stretch, more in added.items()] if added else []


def _kept_per_layer(peaks: "Peaks", sizes: Sizes) -> int:
    """Bytes that one more layer adds to what waits for the backward pass."""
    start = peaks["backward/loss"]["activations"] - peaks["forward/first"]["activations"]
    return max(0, start) // max(1, sizes.layers - 1)


def _engine_bytes(
    strategy: Strategy, result: EnginePeaks, engine: EngineConfig, per_layer: int, sizes: Sizes, hardware: Hardware
) -> tuple[Bytes, Bytes]:
    """The engine's bytes of one device, and of the host by all ranks on it; the save gathers 16-bit weights there."""
    ranks = max(1, hardware.gpus)  # of this machine
    device = dict.fromkeys(DEVICE, 0)
    for category, size in result["device"].items():
        device[category if category in DEVICE else "temporary"] += size
    device["activations"] += per_layer * (sizes.layers - engine["layers"])
    host = {c: size * ranks for c, size in result["host"].items() if size and c != "temporary"}
    host["temporary"] = result["host"].get("temporary", 0) * ranks
    if strategy.optimizer == "nvme":
        # Master copy, moments and gradients are on the disk; swap buffers and the accumulated gradient stay.
        # Tensors are not cut: the embedding may come on top of a sub-group that is almost full.
        group = (
            zero_settings(sizes, hardware.host_bytes, hardware.ranks)["sub_group_size"]
            + sizes.vocabulary * sizes.hidden
        )
        group = min(group, result["largest_group"])
        host["temporary"] = min(host["temporary"], 4 * group * ranks)
        host["gradients"] = 2 * sizes.parameters // hardware.nodes
        # One more copy is what the states are initialized from, before there are gradients.
        host["optimizer"] = NVME_BUFFERS * 4 * group * ranks + max(0, 4 * group * ranks - host["gradients"])
    host["save"] = 2 * sizes.parameters
    if strategy.optimizer == "cpu":
        host["pinned"], host["pinned_rounding"] = result["pinned"] * ranks, result["pinned_rounding"] * ranks
    return device, host
