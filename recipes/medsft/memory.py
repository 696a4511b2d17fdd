"""The memory plan by arithmetic: what each way of training holds on the device, on the host and on disk.

Counts of parameters are exact; bytes per parameter of the offload strategies are those of DeepSpeed 0.19.8's buffers.
Before context and slack the sums are within 3 % of traces of the real step of Mistral-7B, batch 4 x 512: full 58.0 GB,
LoRA 17.6, QLoRA 7.6 (0.3 less with double quantization), ZeRO-3 with the optimizer on the host 16.7. With parameters
there too they are 0.5 GB above the traced 4.1. GB is 10**9 bytes.
"""

from typing import Any

from medsft.cli import DoesNotFit, UserError
from medsft.hardware import Hardware
from medsft.ladder import METHODS, ON_CPU, ORDER, ORDER_ON_CPU, Method
from medsft.roofline import seconds_per_step
from medsft.sizes import Sizes, count_lora, count_parameters, known_config, lora_parameters, sizes_of

__all__ = ["check_fits", "count_lora", "count_parameters", "known_config", "predict", "recommend", "strategies"]

NF4 = 0.5 + 0.127 / 8  # bytes per weight: 4 bits, and 0.127 bits of double-quantized scales (arXiv:2305.14314)
CONTEXT = 1_000_000_000  # CUDA context, cuBLAS and NCCL workspaces: 0.5 to 1.5 GB
SLACK = 0.06  # what the allocator reserves beyond what is allocated: 5 to 7 %
PROCESS_WITH_GPU = 5_000_000_000  # host memory of python, CUDA libraries and data workers: 4 to 6 GiB per process
PROCESS_ON_CPU = 1_000_000_000
HOST_RESERVE = 2_000_000_000  # left free for everything else on the machine; training's own default is the same
LIVE_PARAMETERS = 1_000_000_000  # gathered by ZeRO-3 at one time (stage3_max_live_parameters), 2 bytes each
SUB_GROUP = 100_000_000  # NVMe: five fp32 buffers of the largest sub-group stay in host memory


def activations(sizes: Sizes, tokens: int, width: int, checkpointing: bool) -> tuple[int, int]:
    """(one layer's working set, peak) bytes of activations of `tokens` on one device, `width` bytes per number.

    A layer saves about four bytes per linear output and eight per hidden element (205 kB per token of Mistral-7B at
    width 2, traced 200 to 206), and their gradients take as much again. Checkpointing keeps each layer's input only.
    The loss holds one tile of logits of at most 4096 x 32768 at 18 bytes: once in 16 bits, four times in 32.
    """
    outputs = sum(out for _, _, out in sizes.linears) // sizes.layers
    saved = tokens * (4 * outputs + 8 * sizes.hidden) * width // 2
    logits = min(tokens, 4096) * min(sizes.vocabulary, 32_768) * 18
    if checkpointing:
        return 2 * saved, sizes.layers * tokens * sizes.hidden * width + 2 * saved + logits
    return 2 * saved, (sizes.layers + 1) * saved + logits


def strategies(
    config: Any, hardware: Hardware, batch: int, length: int, lora_r: int, checkpointing: bool = True
) -> list[dict[str, Any]]:
    """Every strategy of the ladder with its bytes by place and category, and whether it fits this hardware.

    `device_bytes` are those of one GPU; without a GPU they are a part of `host_bytes`. `host_bytes` supposes pinned
    buffers of exact size, `host_bytes_pinned` that torch rounds them up. `seconds_per_step`: batch x length per device.
    """
    sizes = sizes_of(config)
    names = {"lora", "qlora", *METHODS}
    if hardware.gpus == 0:
        names -= {"full_fp32", "full_8bit"}  # `full` is in fp32 there, and paged 8-bit AdamW is for CUDA only
    if hardware.gpus < 2:
        names -= {"full_zero3"}  # nothing to shard over
    order = ["lora", "qlora", *METHODS]
    return [_strategy(n, sizes, hardware, batch * length, lora_r, checkpointing) for n in order if n in names]


def recommend(candidates: list[dict[str, Any]], hardware: Hardware) -> tuple[str | None, str]:
    """(name, reason) of the first that fits by quality and then cost; (None, what the least one needs) if none does."""
    fitting = {c["name"] for c in candidates if c["fits"]}
    order = ORDER if hardware.gpus else ORDER_ON_CPU
    name = next((n for n in order if n in fitting), None)
    if name is not None:
        return name, order[name]
    least = min(candidates, key=lambda c: max(c["host_bytes"], sum(c["device_bytes"].values())))
    return None, f"the least demanding is {least['name']}, which {least['reason']}"


def predict(
    name: str, config: Any, hardware: Hardware, batch: int, length: int, lora_r: int, checkpointing: bool = True
) -> dict[str, int]:
    """Total bytes at the peak of training strategy `name`: of one GPU (0 without a GPU) and of the host."""
    row = _strategy(name, sizes_of(config), hardware, batch * length, lora_r, checkpointing)
    device, host, _ = _needs(row, hardware)
    return {"device_bytes": device, "host_bytes": host}


def check_fits(
    prediction: dict[str, int], hardware: Hardware, reserve_bytes: int, candidates: list[dict[str, Any]] | None = None
) -> None:
    """Raise DoesNotFit where the prediction exceeds what is free now, naming those of `candidates` that do not."""
    limits = hardware.device_available_bytes, hardware.host_available_bytes, hardware.disk_bytes
    short = _shortfall((prediction["device_bytes"], prediction["host_bytes"], 0), limits, reserve_bytes)
    if not short:
        return
    fitting = [
        c["name"] for c in candidates or [] if c["fits"] and not _shortfall(_needs(c, hardware), limits, reserve_bytes)
    ]
    remedy = f"what fits: {', '.join(fitting)}" if fitting else "recipes/plan_memory.py shows what fits"
    raise DoesNotFit(f"{short}; {remedy}")


def gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"


def _strategy(
    name: str, sizes: Sizes, hardware: Hardware, tokens: int, lora_r: int, checkpointing: bool
) -> dict[str, Any]:
    on_cpu, gpus = hardware.gpus == 0, max(1, hardware.gpus)
    if name not in ("lora", "qlora", *METHODS):
        raise UserError(f"unknown strategy '{name}'; there are lora, qlora, {', '.join(METHODS)}")
    method = (METHODS | ON_CPU if on_cpu else METHODS).get(name, Method((0, 0, 0)))
    device = _states(name, method, sizes, lora_parameters(sizes, lora_r), gpus)
    working, peak = activations(sizes, tokens, 4 if name == "full" and on_cpu else 2, checkpointing)
    # Gradients that stay on the device are complete only when the activations are gone, all but one layer's.
    device["activations"] = max(working, peak - device["gradients"])
    gathered = 2 * min(LIVE_PARAMETERS, sizes.parameters) if method.zero3 and (gpus > 1 or not method.device[0]) else 0
    slack = int(SLACK * (sum(device.values()) + gathered))
    device["other"] = gathered + slack + (PROCESS_ON_CPU if on_cpu else CONTEXT)
    total = sum(device.values())
    host = _offloaded(method, sizes, gpus) + (total if on_cpu else PROCESS_WITH_GPU * gpus)
    disk = _disk(method, sizes, lora_parameters(sizes, lora_r))
    limits = hardware.device_bytes, hardware.host_bytes, hardware.disk_bytes
    short = _shortfall((0 if on_cpu else total, host, disk), limits, HOST_RESERVE)
    spare = f"leaves {gb(limits[1] - host)} of the host" + ("" if on_cpu else f", {gb(limits[0] - total)} of each GPU")
    default_config = "cpu.yaml" if on_cpu else "single_gpu.yaml" if gpus == 1 else "multi_gpu.yaml"
    return {
        "name": name,
        "device_bytes": device,
        "host_bytes": host,
        "host_bytes_pinned": host + (0 if on_cpu else _pinned_rounding(method, sizes.parameters)),
        "disk_bytes": disk,
        "fits": not short,
        "reason": short or spare,
        "note": method.note,
        "accelerate_config": method.config or default_config,
        "seconds_per_step": seconds_per_step(
            sizes.parameters, name in METHODS, tokens, device["weights"], method.pcie, method.swap, hardware
        ),
    }


def _needs(row: dict[str, Any], hardware: Hardware) -> tuple[int, int, int]:
    """(GPU memory, host memory, disk) of a strategy; without a GPU all memory is the host's."""
    return sum(row["device_bytes"].values()) if hardware.gpus else 0, row["host_bytes"], row["disk_bytes"]


def _states(name: str, method: Method, sizes: Sizes, adapters: int, gpus: int) -> dict[str, int]:
    """Bytes on one device of weights, gradients and optimizer. Adapters are kept in fp32 with fp32 states."""
    if name in METHODS:
        shards = gpus if method.zero3 else 1
        parts = [int(part * sizes.parameters / shards) for part in method.device]
        return dict(zip(("weights", "gradients", "optimizer"), parts, strict=True))
    packed = sizes.linear_parameters if name == "qlora" else 0
    base = int(NF4 * packed) + 2 * (sizes.parameters - packed)
    return {"weights": base + 4 * adapters, "gradients": 4 * adapters, "optimizer": 8 * adapters}


def _offloaded(method: Method, sizes: Sizes, gpus: int) -> int:
    """Host bytes of offloaded states, and under ZeRO-3 of the 16-bit state dict that is gathered to save the model."""
    replicas = 1 if method.zero3 else gpus
    buffers = 5 * 4 * max(SUB_GROUP, sizes.largest) if method.swap else 0
    return int((sum(method.host) * replicas + (2 if method.zero3 else 0)) * sizes.parameters) + buffers


def _pinned_rounding(method: Method, parameters: int) -> int:
    """What torch's pinned allocator adds at most (`pin_memory: true`): blocks are rounded up to powers of two.

    Flat 16-bit buffers are rounded here; the share of the gradients' sub-groups (19 %) and of the partitions that
    parameter offload leaves in the allocator's cache (111 % of the weights) are those traced for Mistral-7B.
    """
    if not method.zero3 or not any(method.host):
        return 0
    flat = 2 ** (2 * parameters - 1).bit_length() - 2 * parameters
    gradients = 0.19 * (method.host[1] - 2) * parameters
    return int(flat + gradients + (flat + 1.11 * 2 * parameters if method.host[0] else 0))


def _disk(method: Method, sizes: Sizes, adapters: int) -> int:
    """Bytes of the base model in 16 bits, the trained weights, two checkpoints with optimizer states, and swap."""
    if not any(method.device + method.host):
        return 2 * sizes.parameters + (4 + 2 * 12) * adapters
    weights = max(2, method.device[0])
    states = 12 if method.swap else max(method.device[2], method.host[2])
    return int((2 + weights + 2 * (weights + states) + method.swap) * sizes.parameters)


def _shortfall(needed: tuple[int, int, int], limits: tuple[int, int, int], reserve: int) -> str:
    """What is missing of (GPU memory, host memory, disk) where `reserve` bytes of the host stay free; '' if nothing."""
    spare = (0, reserve, 0)
    places = ("GPU memory", f"host memory and {gb(reserve)} to spare", "disk")
    rows = zip(places, needed, limits, spare, strict=True)
    return "; ".join(f"needs {gb(n)} of {place}, has {gb(has)}" for place, n, has, free in rows if n + free > has)
