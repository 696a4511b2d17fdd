"""The memory plan: what each way of training holds on the device, on the host and on disk at its peak.

Device and host bytes come from traces of the real step and of DeepSpeed's real engine (`traced_step`, `traced_zero`);
beside them stand what no trace sees, named here with its source. GB is 10**9 bytes.
"""

from collections.abc import Callable
from typing import Any

from medsft.config import CONFIGS
from medsft.errors import DoesNotFit, UserError
from medsft.hardware.specs import Hardware
from medsft.memory import calibration
from medsft.memory.step_config import shared
from medsft.memory.step_time import seconds_per_step
from medsft.memory.strategies import ON_CPU, ORDER, ORDER_ON_CPU, STRATEGIES, Strategy, applies, recipe_of
from medsft.models.parameter_counts import count_lora, count_parameters, known_config, lora_parameters, sizes_of

__all__ = ["check_fits", "count_lora", "count_parameters", "known_config", "predict", "recommend", "strategies"]

HOST_RESERVE = 2_000_000_000  # left free for everything else on the machine; training's own default is the same
LIVE_PARAMETERS = 1_000_000_000  # ZeRO-3 gathers at most so many at one time (stage3_max_live_parameters)
NVME_BUFFERS = 4  # fp32 copies of the largest sub-group in host memory that DeepSpeed's swapper keeps
MOST_ROWS = 1024  # the largest micro-batch that is named
Row = dict[str, Any]


def strategies(
    config: Any, hardware: Hardware, batch: int, length: int, lora_r: int, own: str | None = None,
    only_own: bool = False, **step: Any,
) -> list[Row]:  # fmt: skip
    """Every strategy of the ladder with its bytes by place and category, and whether it fits this hardware.

    `step`: fields of `training_step.Step` that a recipe decides. All of them hold for its `own` strategy, for the
    others those that do not belong to one way of training (dtype, optimizer). With `only_own` the others are traced
    only if it does not fit. `device_bytes` are those of one GPU; without one they are a part of `host_bytes`.
    `host_bytes` supposes pinned buffers of exact size, `host_bytes_pinned` that torch rounds them up to powers of two.
    `seconds_per_step`: a roofline for batch x length tokens per device.
    """
    settings = {"lora_r": lora_r, **step}
    exact = _rows([own], config, hardware, batch, length, settings, not only_own) if own else []
    if only_own and exact and exact[0]["fits"]:
        return exact
    names = [n for n in STRATEGIES if applies(n, hardware.gpus) and n != own]
    rows = exact + _rows(names, config, hardware, batch, length, shared(settings), with_growth=True)
    return sorted(rows, key=lambda row: [*STRATEGIES].index(row["name"]))


def predict(
    name: str, config: Any, hardware: Hardware, batch: int, length: int, lora_r: int, **step: Any
) -> dict[str, int]:
    """Total bytes at the peak of training strategy `name`: of one GPU (0 without a GPU) and of the host; beside them
    what was traced of one device, without the context and slack that a machine adds.

    `step`: the fields of `training_step.Step` that the recipe decides (`training_step.of_recipe`).
    """
    if name not in STRATEGIES:
        raise UserError(f"unknown strategy '{name}'; there are {', '.join(STRATEGIES)}")
    row = _rows([name], config, hardware, batch, length, {"lora_r": lora_r} | step)[0]
    device, host, _ = _needs(row, hardware)
    traced = sum(v for k, v in row["device_bytes"].items() if k not in ("context", "other"))
    return {"device_bytes": device, "host_bytes": host, "traced_bytes": traced}


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


def _rows(
    names: list[str], config: Any, hardware: Hardware, batch: int, length: int, settings: Row,
    with_growth: bool = False,
) -> list[Row]:  # fmt: skip
    from medsft.memory.peaks import bytes_of_strategies

    sizes = sizes_of(config)
    chosen = {n: (STRATEGIES | ON_CPU if hardware.gpus == 0 else STRATEGIES)[n] for n in names}
    found = bytes_of_strategies(chosen, config, sizes, hardware, batch, length, settings, with_growth)
    rows = []
    for name, strategy in chosen.items():
        trained = sizes.parameters if strategy.trains_all else lora_parameters(sizes, settings["lora_r"])
        device, host, growth = found[name]
        row = _places(name, strategy, device, host, hardware, batch)
        row["disk_bytes"] = _disk(strategy, sizes.parameters, trained)
        row |= _verdict(row, hardware) | {"largest_micro_batch": _largest(growth, batch, row, hardware)}
        weights, tokens = row["device_bytes"]["weights"], batch * length
        row["seconds_per_step"] = seconds_per_step(
            sizes.parameters, strategy.trains_all, tokens, weights, strategy.pcie, strategy.swap, hardware
        )
        rows.append(row)
    return rows


def _places(
    name: str, strategy: Strategy, device: dict[str, int], host: dict[str, int], hardware: Hardware, batch: int
) -> Row:
    """Bytes by place and category, with what no trace sees: context and slack of the device, the process itself."""
    on_cpu, gpus = hardware.gpus == 0, max(1, hardware.gpus)
    known = calibration.of_machine(hardware, batch)
    slack = calibration.RETURNED if on_cpu and strategy.optimizer == "nvme" else known.slack
    device = device | {"context": known.context_bytes, "other": int(slack * sum(device.values()))}
    host = {"process": known.process_bytes * gpus, **host}
    rounding, pinned = (0 if on_cpu else host.pop(k, 0) for k in ("pinned_rounding", "pinned"))
    host = {k: v for k, v in host.items() if k not in ("pinned_rounding", "pinned")}
    if on_cpu:
        host["training"] = sum(device.values())
    return {
        "name": name,
        "device_bytes": device,
        "host_bytes": sum(host.values()),
        "host_bytes_by": host,
        "pinned_bytes": pinned,
        "host_bytes_pinned": sum(host.values()) + rounding,
        "note": strategy.note,
        "recipe": getattr(recipe_of(CONFIGS / "mistral_7b", name), "name", None),
        "accelerate_config": strategy.config
        or ("cpu.yaml" if on_cpu else "single_gpu.yaml" if gpus == 1 else "multi_gpu.yaml"),
    }


def _disk(strategy: Strategy, parameters: int, trained: int) -> int:
    """The downloaded weights, the saved ones, two checkpoints of weights and states, and what is swapped."""
    return int(2 * parameters + 2 * trained + 2 * (2 + strategy.states) * trained + strategy.swap * parameters)


def _verdict(row: Row, hardware: Hardware) -> Row:
    """Whether it fits, by what margin in each place, and the reason in words."""
    needed = _needs(row, hardware)
    limits = hardware.device_bytes, hardware.host_bytes, hardware.disk_bytes
    short = _shortfall(needed, limits, HOST_RESERVE)
    left = dict(zip(("device_bytes", "host_bytes", "disk_bytes"), map(int.__sub__, limits, needed), strict=True))
    margin: Row = left if hardware.gpus else left | {"device_bytes": None}
    spare = f"leaves {gb(left['host_bytes'])} of the host"
    spare += f", {gb(left['device_bytes'])} of each GPU" if hardware.gpus else ""
    return {"fits": not short, "margin": margin, "reason": short or spare}


def _largest(growth: list[tuple[int, int]], batch: int, row: Row, hardware: Hardware) -> int:
    """Rows with which every stretch of the step stays within the device's memory, where the rest fits."""
    if not growth:
        return 0
    traced = sum(v for k, v in row["device_bytes"].items() if k not in ("context", "other"))
    share = 1 + (row["device_bytes"]["other"] / traced if traced else 0)
    if hardware.gpus and hardware.host_bytes < row["host_bytes"] + HOST_RESERVE:
        return 0
    fixed = row["device_bytes"]["context"]
    if not hardware.gpus:
        fixed = row["host_bytes"] - row["host_bytes_by"]["training"] + HOST_RESERVE
    room = int(((hardware.device_bytes or hardware.host_bytes) - fixed) / share)
    rows = [batch + (room - now) // per_row if per_row else MOST_ROWS * (now <= room) for now, per_row in growth]
    return max(0, min([MOST_ROWS, *rows]))


def _needs(row: Row, hardware: Hardware) -> tuple[int, int, int]:
    """(GPU memory, host memory, disk) of a strategy; without a GPU all memory is the host's."""
    return sum(row["device_bytes"].values()) if hardware.gpus else 0, row["host_bytes"], row["disk_bytes"]


def _shortfall(needed: tuple[int, int, int], limits: tuple[int, int, int], reserve: int) -> str:
    """What is missing of (GPU memory, host memory, disk) where `reserve` bytes of the host stay free; '' if nothing."""
    spare = (0, reserve, 0)
    places = ("GPU memory", f"host memory and {gb(reserve)} to spare", "disk")
    rows = zip(places, needed, limits, spare, strict=True)
    return "; ".join(f"needs {gb(n)} of {place}, has {gb(has)}" for place, n, has, free in rows if n + free > has)
