"""The memory plan: what each strategy holds on the device, on the host and on disk at its peak.

Device and host bytes come from traces of the real step and of DeepSpeed's real engine (`trace.step`, `trace.zero`);
what no trace sees is added here, each number with its source. GB is 10**9 bytes.
"""

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Unpack

from medsft.config import CONFIGS
from medsft.errors import DoesNotFit, UserError
from medsft.hardware.specs import Hardware
from medsft.memory import calibration, lower_bound
from medsft.memory.peaks import DEVICE, Bytes, Growth, StrategyBytes, bytes_of_strategies
from medsft.memory.plan_records import PlanRow
from medsft.memory.step_config import StepConfig, StepSettings, shared
from medsft.memory.step_time import seconds_per_step
from medsft.memory.strategies import ON_CPU, ORDER, ORDER_ON_CPU, STRATEGIES, Strategy, applies, recipe_of
from medsft.models.parameter_counts import count_modules, lora_parameters, sizes_of
from medsft.records import Memory

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

HOST_RESERVE = 2_000_000_000  # left free for everything else on the machine; training's own default is the same
CHECKPOINTS = 3  # two are kept (save_total_limit), and the oldest is deleted once the next one is whole
MOST_ROWS = 1024  # the largest micro-batch that is named
OVER_MACHINES = {"multi_gpu.yaml": "multi_node.yaml", "zero3.yaml": "zero3_multi_node.yaml"}
NOT_TRACED = ("context", "other")  # of a row's device_bytes


def strategies(
    config: "PreTrainedConfig", hardware: Hardware, batch: int, length: int, own: str | None = None,
    only_own: bool = False, among: Collection[str] = tuple(STRATEGIES), **step: Unpack[StepSettings],
) -> list[PlanRow]:  # fmt: skip
    """Every strategy `among` those named with its bytes by memory and category, and whether it fits this hardware.

    `step`: what a recipe decides. All of it holds for its `own` strategy; for the others only what does not belong to
    one strategy (so not dtype and optimizer). With `only_own` the others are traced only if it does not fit.
    `device_bytes` are those of one GPU; without one they are a part of `host_bytes`. `host_bytes` supposes pinned
    buffers of exact size, `host_bytes_pinned` that torch rounds them up to powers of two. `seconds_per_step`: a
    roofline for batch x length tokens per device.
    """
    exact = _rows([own], config, hardware, batch, length, step, not only_own) if own else []
    if only_own and exact and exact[0]["fits"]:
        return exact
    names = [n for n in STRATEGIES if n in among and applies(n, hardware.gpus, hardware.nodes) and n != own]
    rows = exact + _rows(names, config, hardware, batch, length, shared(step), with_growth=True)
    if rows and all(_untraced(row) for row in rows):
        raise UserError(rows[0]["reason"])
    return sorted(rows, key=lambda row: [*STRATEGIES].index(row["name"]))


def predict(
    name: str, config: "PreTrainedConfig", hardware: Hardware, batch: int, length: int, **step: Unpack[StepSettings]
) -> Memory:
    """Total bytes at the peak of training by strategy `name`: of one GPU (0 without a GPU) and of the host; beside them
    what was traced of one device, without the context and slack that a machine adds.

    `step`: what the recipe decides (`step_config.of_recipe`). Raises UserError for an unknown strategy, and where this
    one cannot be traced.
    """
    if name not in STRATEGIES:
        raise UserError(f"unknown strategy '{name}'; there are {', '.join(STRATEGIES)}")
    row = _rows([name], config, hardware, batch, length, step)[0]
    if _untraced(row):
        raise UserError(row["reason"])
    device, host, _ = _needs(row, hardware)
    return {"device_bytes": device, "host_bytes": host, "traced_bytes": _traced(row["device_bytes"])}


def recommend(candidates: list[PlanRow], hardware: Hardware) -> tuple[str | None, str]:
    """(name, reason) of the first that fits by quality and then cost; (None, what the least one needs) if none does."""
    fitting = {c["name"] for c in candidates if c["fits"]}
    order = ORDER if hardware.gpus else ORDER_ON_CPU
    name = next((n for n in order if n in fitting), None)
    if name is not None:
        return name, order[name]
    known = [c for c in candidates if not _untraced(c)] or candidates
    least = min(known, key=lambda c: max(c["host_bytes"], sum(c["device_bytes"].values())))
    return None, f"the least demanding is {least['name']}, which {least['reason']}"


def check_fits(
    prediction: Memory,
    hardware: Hardware,
    reserve_bytes: int,
    candidates: list[PlanRow] | Callable[[], list[PlanRow]] | None = None,
) -> None:
    """Raise DoesNotFit where the prediction exceeds what is free now, naming those of `candidates` that do not.

    `candidates` may be a function: it is called only where they are needed.
    """
    short = _shortfall((prediction["device_bytes"], prediction["host_bytes"], 0), _free(hardware), reserve_bytes)
    if not short:
        return
    try:
        others = candidates() if callable(candidates) else candidates or []
    except UserError:  # no other strategy of this model can be traced
        others = []
    fitting = [c["name"] for c in others if c["fits"] and not short_now(c, hardware, reserve_bytes)]
    remedy = f"what fits: {', '.join(fitting)}" if fitting else "recipes/plan_memory.py shows what fits"
    raise DoesNotFit(f"{short}; {remedy}")


def short_now(row: PlanRow, hardware: Hardware, reserve_bytes: int = HOST_RESERVE) -> str:
    """What a strategy of the plan lacks of the memory and disk that are free now, in words; '' if nothing."""
    return _shortfall(_needs(row, hardware), _free(hardware), reserve_bytes)


def _free(hardware: Hardware) -> tuple[int, int, int]:
    return hardware.device_available_bytes, hardware.host_available_bytes, hardware.disk_bytes


def format_gb(size: float) -> str:
    """Gigabytes of 10**9 bytes with one decimal: '80.0 GB'."""
    return f"{size / 1e9:.1f} GB"


def _rows(
    names: list[str], config: "PreTrainedConfig", hardware: Hardware, batch: int, length: int, settings: StepSettings,
    with_growth: bool = False,
) -> list[PlanRow]:  # fmt: skip
    sizes, tokens = sizes_of(config), batch * length
    every = {n: (STRATEGIES | ON_CPU if hardware.gpus == 0 else STRATEGIES)[n] for n in names}
    # with the growth it is a plan, in which what cannot fit need not be traced
    hopeless = {n: s for n, s in every.items() if with_growth and lower_bound.shortfall(s, sizes.parameters, hardware)}
    chosen = {n: s for n, s in every.items() if n not in hopeless}
    rows = [_hopeless_row(n, s, sizes.parameters, hardware) for n, s in hopeless.items()]
    found = bytes_of_strategies(chosen, config, sizes, hardware, batch, length, settings, with_growth)
    beside = count_modules(config, settings.get("saved_modules", ()))
    for name, strategy in chosen.items():
        adapters = lora_parameters(sizes, settings.get("lora_r", StepConfig.lora_r)) + beside
        trained = sizes.parameters if strategy.trains_all else adapters
        bytes_found = found[name]
        if isinstance(bytes_found, UserError):
            rows.append(_untraced_row(name, strategy, str(bytes_found), hardware))
            continue
        row = _row(name, strategy, bytes_found, _disk(strategy, sizes.parameters, trained), hardware, batch)
        row["largest_micro_batch"] = _largest(bytes_found.growth, batch, row, hardware)
        weights = row["device_bytes"]["weights"]
        row["seconds_per_step"] = seconds_per_step(
            sizes.parameters, strategy.trains_all, tokens, weights, strategy.pcie, strategy.swap, hardware
        )
        rows.append(row)
    return rows


def _hopeless_row(name: str, strategy: Strategy, parameters: int, hardware: Hardware) -> PlanRow:
    """A row of what a strategy needs at the least, where that alone is too much."""
    least = lower_bound.least(strategy, parameters, hardware)
    device = dict.fromkeys(DEVICE, 0) | {"weights": int(least.device if hardware.gpus else least.host)}
    found = StrategyBytes(device, {"training": int(least.host)} if hardware.gpus else {}, [])
    row = _row(name, strategy, found, int(least.disk), hardware, 1)
    row["fits"], row["reason"] = False, f"needs at least {lower_bound.shortfall(strategy, parameters, hardware)}"
    return row


def _untraced_row(name: str, strategy: Strategy, reason: str, hardware: Hardware) -> PlanRow:
    """A row of a strategy of whose bytes nothing is known, with the reason."""
    row = _row(name, strategy, StrategyBytes(dict.fromkeys(DEVICE, 0), {}, []), 0, hardware, 1)
    row["device_bytes"], row["host_bytes_by"] = dict.fromkeys(row["device_bytes"], 0), {}
    row["host_bytes"] = row["host_bytes_pinned"] = row["pinned_bytes"] = 0
    row["fits"], row["reason"] = False, reason
    row["margin"] = {"device_bytes": None, "host_bytes": None, "disk_bytes": None}
    return row


def _untraced(row: PlanRow) -> bool:
    return row["host_bytes"] == 0  # every other row has at least the process


def _row(name: str, strategy: Strategy, found: StrategyBytes, disk: int, hardware: Hardware, batch: int) -> PlanRow:
    """One row of the plan, with what no trace sees: context and slack of the device, the process itself."""
    on_cpu, gpus = hardware.gpus == 0, max(1, hardware.gpus)
    known = calibration.of_machine(hardware, batch, strategy.trains_all)
    slack = calibration.RETURNED if on_cpu and strategy.optimizer == "nvme" else known.slack
    offloads = bool(strategy.engine) and not on_cpu and strategy.parameters == "cpu"
    slack, process = (max(slack, calibration.ENGINE), calibration.ENGINE_PROCESS) if offloads else (slack, 0)
    context = known.context_bytes + (calibration.NCCL if hardware.ranks > 1 else 0)
    device = found.device | {"context": context, "other": int(slack * sum(found.device.values()))}
    host = {"process": (known.process_bytes + process) * gpus, **found.host}
    pinned, rounding = host.pop("pinned", 0), host.pop("pinned_rounding", 0)
    if on_cpu:
        host["training"] = sum(device.values())
        pinned = rounding = 0
    by_gpus = "cpu.yaml" if on_cpu else "single_gpu.yaml" if hardware.ranks == 1 else "multi_gpu.yaml"
    config = strategy.config or by_gpus
    config = OVER_MACHINES.get(config, config) if hardware.nodes > 1 else config
    row: PlanRow = {
        "name": name,
        "fits": False,
        "reason": "",
        "margin": {},
        "device_bytes": device,
        "host_bytes": sum(host.values()),
        "host_bytes_by": host,
        "host_bytes_pinned": sum(host.values()) + rounding,
        "pinned_bytes": pinned,
        "disk_bytes": disk,
        "largest_micro_batch": 0,
        "seconds_per_step": None,
        "note": strategy.note,
        "recipe": getattr(recipe_of(CONFIGS / "mistral_7b", name), "name", None),
        "accelerate_config": config,
    }
    row["fits"], row["margin"], row["reason"] = _verdict(row, hardware)
    return row


def _disk(strategy: Strategy, parameters: int, trained: int) -> int:
    """The downloaded weights, the saved ones, the checkpoints, and what is swapped."""
    weights = 2 * parameters + 2 * trained
    return int(weights + CHECKPOINTS * checkpoint_bytes(strategy, trained) + strategy.swap * parameters)


def checkpoint_bytes(strategy: Strategy, trained: int) -> int:
    """Of one checkpoint: the trained weights and the optimizer's states (14 bytes a weight measured under ZeRO-3)."""
    wide = strategy.step.get("dtype") == "float32" or not strategy.trains_all
    weights = 8 if strategy.engine == "fsdp2" else 4 if wide else 2  # FSDP2 writes its float32 weights twice
    return int((weights + strategy.states) * trained)


def _verdict(row: PlanRow, hardware: Hardware) -> tuple[bool, dict[str, int | None], str]:
    """(whether it fits, bytes left of each kind of memory, the reason in words)."""
    needed = _needs(row, hardware)
    limits = hardware.device_bytes, hardware.host_bytes, hardware.disk_bytes
    short = _shortfall(needed, limits, HOST_RESERVE)
    device, host, disk = map(int.__sub__, limits, needed)
    spare = f"leaves {format_gb(host)} of the host"
    spare += f", {format_gb(device)} of each GPU" if hardware.gpus else ""
    margin = {"device_bytes": device if hardware.gpus else None, "host_bytes": host, "disk_bytes": disk}
    return not short, margin, short or spare


def _largest(growth: Growth, batch: int, row: PlanRow, hardware: Hardware) -> int:
    """Rows with which every stretch of the step stays within the device's memory, where the rest fits."""
    if not growth:
        return 0
    traced = _traced(row["device_bytes"])
    share = 1 + (row["device_bytes"]["other"] / traced if traced else 0)
    if hardware.gpus and hardware.host_bytes < row["host_bytes"] + HOST_RESERVE:
        return 0
    fixed = row["device_bytes"]["context"]
    if not hardware.gpus:
        fixed = row["host_bytes"] - row["host_bytes_by"]["training"] + HOST_RESERVE
    room = int(((hardware.device_bytes or hardware.host_bytes) - fixed) / share)
    rows = [batch + (room - now) // per_row if per_row else MOST_ROWS * (now <= room) for now, per_row in growth]
    return max(0, min([MOST_ROWS, *rows]))


def _traced(device: Bytes) -> int:
    return sum(size for category, size in device.items() if category not in NOT_TRACED)


def _needs(row: PlanRow, hardware: Hardware) -> tuple[int, int, int]:
    """(GPU memory, host memory, disk) of a strategy; without a GPU all memory is the host's."""
    return sum(row["device_bytes"].values()) if hardware.gpus else 0, row["host_bytes"], row["disk_bytes"]


def _shortfall(needed: tuple[int, int, int], limits: tuple[int, int, int], reserve: int) -> str:
    """What is missing of (GPU memory, host memory, disk) where `reserve` bytes of the host stay free; '' if nothing."""
    spare = (0, reserve, 0)
    memories = ("GPU memory", f"host memory and {format_gb(reserve)} to spare", "disk")
    rows = zip(memories, needed, limits, spare, strict=True)
    return "; ".join(
        f"needs {format_gb(n)} of {memory}, has {format_gb(has)}" for memory, n, has, free in rows if n + free > has
    )
