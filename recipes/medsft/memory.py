"""The memory plan: what each way of training holds on the device, on the host and on disk at its peak.

Device and host bytes come from traces of the real step and of DeepSpeed's real engine (`traced_step`, `traced_zero`);
beside them stand what no trace sees, named here with its source. GB is 10**9 bytes.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from medsft import calibration
from medsft.cli import DoesNotFit, UserError
from medsft.hardware import Hardware
from medsft.ladder import METHODS, ON_CPU, ORDER, ORDER_ON_CPU, Method
from medsft.roofline import seconds_per_step
from medsft.sizes import Sizes, count_lora, count_parameters, known_config, lora_parameters, sizes_of

__all__ = [
    "check_fits", "cheaper", "count_lora", "count_parameters", "known_config", "largest_micro_batch", "predict",
    "recommend", "strategies",
]  # fmt: skip

HOST_RESERVE = 2_000_000_000  # left free for everything else on the machine; training's own default is the same
LIVE_PARAMETERS = 1_000_000_000  # ZeRO-3 gathers at most so many at one time (stage3_max_live_parameters)
NVME_BUFFERS = 5  # fp32 copies of the largest sub-group in host memory: four swap buffers and one to initialize from
Row = dict[str, Any]


def strategies(
    config: Any, hardware: Hardware, batch: int, length: int, lora_r: int, checkpointing: bool = True, **step: Any
) -> list[Row]:
    """Every strategy of the ladder with its bytes by place and category, and whether it fits this hardware.

    `step`: further fields of `traced_step.Step` that the recipe sets. `device_bytes` are those of one GPU; without one
    they are a part of `host_bytes`. `host_bytes` supposes pinned buffers of exact size, `host_bytes_pinned` that torch
    rounds them up. `seconds_per_step`: a roofline for batch x length tokens per device.
    """
    names = [n for n in METHODS if _applies(n, hardware)]
    settings = {"lora_r": lora_r, "checkpointing": checkpointing} | step
    return _rows(names, config, hardware, batch, length, settings, with_growth=True)


def predict(
    name: str, config: Any, hardware: Hardware, batch: int, length: int, lora_r: int, checkpointing: bool = True,
    **step: Any,
) -> dict[str, int]:  # fmt: skip
    """Total bytes at the peak of training strategy `name`: of one GPU (0 without a GPU) and of the host.

    `step`: fields of `traced_step.Step` in which the recipe differs from the strategy: optimizer, packing, dtype,
    attention, lora_targets, lora_dropout, double_quant, padded, reentrant, autocast.
    """
    if name not in METHODS:
        raise UserError(f"unknown strategy '{name}'; there are {', '.join(METHODS)}")
    settings = {"lora_r": lora_r, "checkpointing": checkpointing} | step
    device, host, _ = _needs(_rows([name], config, hardware, batch, length, settings)[0], hardware)
    return {"device_bytes": device, "host_bytes": host}


def largest_micro_batch(
    name: str, config: Any, hardware: Hardware, batch: int, length: int, lora_r: int, checkpointing: bool = True,
    reserve_bytes: int = HOST_RESERVE, **step: Any,
) -> int:  # fmt: skip
    """The largest number of rows of `length` tokens per device that fits what is free now; 0 where one row does not."""

    def fits(rows: int) -> bool:
        needed = predict(name, config, hardware, rows, length, lora_r, checkpointing, **step)
        limits = hardware.device_available_bytes, hardware.host_available_bytes, hardware.disk_bytes
        return not _shortfall((needed["device_bytes"], needed["host_bytes"], 0), limits, reserve_bytes)

    settings = {"lora_r": lora_r, "checkpointing": checkpointing} | step
    here = replace(hardware, device_bytes=hardware.device_available_bytes, host_bytes=hardware.host_available_bytes)
    rows = _rows([name], config, here, batch, length, settings, with_growth=True)[0]["largest_micro_batch"]
    while rows and not fits(rows):  # the estimate is linear; what it leads to is traced
        rows -= max(1, rows // 16)
    return rows


def cheaper(
    name: str, config: Any, hardware: Hardware, batch: int, length: int, lora_r: int, checkpointing: bool = True,
    reserve_bytes: int = HOST_RESERVE, **step: Any,
) -> list[dict[str, Any]]:  # fmt: skip
    """Settings that fit what is free now, in the order of least loss of speed: {change, device_bytes, host_bytes}.

    `change` holds SFTConfig's names. Halved micro-batches keep the rows per step by accumulation, which the caller
    multiplies; checkpointing costs a third more arithmetic; 8-bit states and other strategies are named last.
    """
    halves = [{"per_device_train_batch_size": batch // 2**n} for n in range(1, 8) if batch // 2**n]
    kept = [{"activation_checkpointing": True, **half} for half in [{}, *halves]]
    ways: list[dict[str, Any]] = [*(halves if checkpointing else [*halves[:1], *kept])]
    if name == "full":
        ways += [{"optim": "paged_adamw_8bit"} | ({"activation_checkpointing": True} if not checkpointing else {})]
    found = []
    for change in ways:
        rows, on = (
            change.get("per_device_train_batch_size", batch),
            change.get("activation_checkpointing", checkpointing),
        )
        other = step | ({"optimizer": change["optim"]} if "optim" in change else {})
        needed = predict(name, config, hardware, rows, length, lora_r, on, **other)
        limits = hardware.device_available_bytes, hardware.host_available_bytes, hardware.disk_bytes
        if not _shortfall((needed["device_bytes"], needed["host_bytes"], 0), limits, reserve_bytes):
            found.append({"change": change, **needed})
    return found


def recommend(candidates: list[Row], hardware: Hardware) -> tuple[str | None, str]:
    """(name, reason) of the first that fits by quality and then cost; (None, what the least one needs) if none does."""
    fitting = {c["name"] for c in candidates if c["fits"]}
    order = ORDER if hardware.gpus else ORDER_ON_CPU
    name = next((n for n in order if n in fitting), None)
    if name is not None:
        return name, order[name]
    least = min(candidates, key=lambda c: max(c["host_bytes"], sum(c["device_bytes"].values())))
    return None, f"the least demanding is {least['name']}, which {least['reason']}"


def check_fits(
    prediction: dict[str, int],
    hardware: Hardware,
    reserve_bytes: int,
    candidates: list[Row] | Callable[[], list[Row]] | None = None,
) -> None:
    """Raise DoesNotFit where the prediction exceeds what is free now, naming those of `candidates` that do not.

    `candidates` may be a function: it is called only where they are needed.
    """
    limits = hardware.device_available_bytes, hardware.host_available_bytes, hardware.disk_bytes
    short = _shortfall((prediction["device_bytes"], prediction["host_bytes"], 0), limits, reserve_bytes)
    if not short:
        return
    others = candidates() if callable(candidates) else candidates or []
    fitting = [c["name"] for c in others if c["fits"] and not _shortfall(_needs(c, hardware), limits, reserve_bytes)]
    remedy = f"what fits: {', '.join(fitting)}" if fitting else "recipes/plan_memory.py shows what fits"
    raise DoesNotFit(f"{short}; {remedy}")


def gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"


def _applies(name: str, hardware: Hardware) -> bool:
    if hardware.gpus == 0:
        return name not in ("full_fp32", "full_8bit", "full_zero3")  # `full` is in fp32; 8-bit AdamW is for CUDA only
    return hardware.gpus > 1 or name != "full_zero3"


def _rows(
    names: list[str], config: Any, hardware: Hardware, batch: int, length: int, settings: Row,
    with_growth: bool = False,
) -> list[Row]:  # fmt: skip
    from medsft.zero_memory import bytes_of_strategies

    sizes, known = sizes_of(config), calibration.of_machine(hardware)
    methods = {n: (METHODS | ON_CPU if hardware.gpus == 0 else METHODS)[n] for n in names}
    found = bytes_of_strategies(methods, config, sizes, hardware, batch, length, settings, with_growth)
    return [_row(n, methods[n], sizes, hardware, batch, length, settings["lora_r"], *found[n], known) for n in names]


def _row(
    name: str, method: Method, sizes: Sizes, hardware: Hardware, batch: int, length: int, lora_r: int,
    device: dict[str, int], host: dict[str, int], growth: list[tuple[int, int]], known: calibration.Corrections,
) -> Row:  # fmt: skip
    on_cpu, gpus = hardware.gpus == 0, max(1, hardware.gpus)
    traced = sum(device.values())
    device = device | {"context": 0 if on_cpu else known.context_bytes, "other": int(known.slack * traced)}
    host = {"process": known.process_bytes * gpus, **host}
    rounding = host.pop("pinned_rounding", 0)
    total, trained = sum(device.values()), sizes.parameters
    if not method.trains_all:
        trained = lora_parameters(sizes, lora_r)
    host_total = sum(host.values()) + (total if on_cpu else 0)
    disk = int(
        2 * sizes.parameters + (2 * trained + 2 * (2 + method.states) * trained) + method.swap * sizes.parameters
    )
    limits = hardware.device_bytes, hardware.host_bytes, hardware.disk_bytes
    short = _shortfall((0 if on_cpu else total, host_total, disk), limits, HOST_RESERVE)
    margin = {"device_bytes": None if on_cpu else limits[0] - total, "host_bytes": limits[1] - host_total}
    fixed = device["context"] if not on_cpu else sum(host.values()) + HOST_RESERVE
    room = (
        int(((limits[1] if on_cpu else limits[0]) - fixed) / (1 + known.slack))
        if on_cpu or limits[1] >= host_total + HOST_RESERVE
        else 0
    )
    spare = f"leaves {gb(limits[1] - host_total)} of the host" + (
        "" if on_cpu else f", {gb(limits[0] - total)} of each GPU"
    )
    default_config = "cpu.yaml" if on_cpu else "single_gpu.yaml" if gpus == 1 else "multi_gpu.yaml"
    return {
        "name": name,
        "device_bytes": device,
        "host_bytes": host_total,
        "host_bytes_by": host | ({"training": total} if on_cpu else {}),
        "host_bytes_pinned": host_total + (0 if on_cpu else rounding),
        "disk_bytes": disk,
        "largest_micro_batch": _largest(growth, batch, room),
        "fits": not short,
        "margin": margin,
        "reason": short or spare,
        "note": method.note,
        "accelerate_config": method.config or default_config,
        "seconds_per_step": seconds_per_step(
            sizes.parameters, method.trains_all, batch * length, device["weights"], method.pcie, method.swap, hardware
        ),
    }


def _largest(growth: list[tuple[int, int]], batch: int, room: int) -> int:
    """Rows with which every stretch of the step stays within `room` bytes; 1024 where memory hardly grows with rows."""
    rows = [batch + (room - now) // per_row if per_row else 1024 * (now <= room) for now, per_row in growth]
    return max(0, min([1024, *rows])) if growth else 0


def _needs(row: Row, hardware: Hardware) -> tuple[int, int, int]:
    """(GPU memory, host memory, disk) of a strategy; without a GPU all memory is the host's."""
    return sum(row["device_bytes"].values()) if hardware.gpus else 0, row["host_bytes"], row["disk_bytes"]


def _shortfall(needed: tuple[int, int, int], limits: tuple[int, int, int], reserve: int) -> str:
    """What is missing of (GPU memory, host memory, disk) where `reserve` bytes of the host stay free; '' if nothing."""
    spare = (0, reserve, 0)
    places = ("GPU memory", f"host memory and {gb(reserve)} to spare", "disk")
    rows = zip(places, needed, limits, spare, strict=True)
    return "; ".join(f"needs {gb(n)} of {place}, has {gb(has)}" for place, n, has, free in rows if n + free > has)
