"""The memory plan in the terminal: bytes of each strategy, whether it fits, and the source study's own numbers."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from medsft.hardware.specs import Hardware
from medsft.memory.launch_command import launch_line
from medsft.memory.plan_records import Plan, PlanRow

if TYPE_CHECKING:
    from rich.table import Table

OF_DEVICE = ("weights", "gradients", "optimizer", "activations", "temporary", "context", "other")
OF_HOST = ("process", "training", "weights", "gradients", "optimizer", "temporary", "save")

READING = """\
Each row is one moment, the busiest; temporary is what lives only then. Pinned: bytes of the host that are page-locked;
'if rounded': the host's total where torch pins them, in blocks of powers of two (with DS_PIN_MEMORY_BACKEND=native
DeepSpeed pins exact sizes)."""
LEGEND = (
    "left: GB left of each GPU and of the host; batch: the most rows per device that fit; s/step: estimated seconds"
)


def show(plan: Plan, hardware: Hardware, recipes: Path, details: bool) -> None:
    """Print what fits and the recommendation, with a recipe of the folder `recipes`; with `details` every byte."""
    model, inputs, rows = plan["model"], plan["inputs"], plan["strategies"]
    print(f"{model['name']}: {model['parameters']:,} parameters on {summary(hardware)}")
    own = f", as in {plan['recipe']}" if plan["recipe"] else ""
    print(
        f"Peak of a step of {inputs['batch']} x {inputs['length']} tokens per device, "
        f"{'with' if inputs['checkpointing'] else 'without'} activation checkpointing{own}. LoRA of rank "
        f"{inputs['lora_r']} has {model['lora_parameters']:,} parameters ({model['lora_percent']:.3f} %)."
    )
    if details:
        _show_bytes(rows, hardware)
    _print(verdicts(rows))
    print(LEGEND)
    if plan["recommended"] is not None:
        row = next(r for r in rows if r["name"] == plan["recommended"])
        print(f"recommended: {row['name']}: {plan['recommended_reason']}")
        for choice in plan["choices"]:
            print(f"chosen for speed: {choice}")
        print(f"run it with: {launch_line(row['name'], row['accelerate_config'], recipes, hardware)}")


def _show_bytes(rows: list[PlanRow], hardware: Hardware) -> None:
    where = "one GPU" if hardware.gpus else "training in host memory (no GPU)"
    table = _table(f"{where}, GB", [*OF_DEVICE[:-1], "slack", "total"])
    for row in rows:
        table.add_row(
            row["name"], *_gb([*(row["device_bytes"][c] for c in OF_DEVICE), sum(row["device_bytes"].values())])
        )
    _print(table)
    present = [c for c in OF_HOST if any(row["host_bytes_by"].get(c) for row in rows)]
    table = _table("host and disk, GB", [*present, "host total", "pinned", "if rounded", "disk"])
    for row in rows:
        host = [*(row["host_bytes_by"].get(c, 0) for c in present), row["host_bytes"], row["pinned_bytes"]]
        table.add_row(row["name"], *_gb([*host, row["host_bytes_pinned"], row["disk_bytes"]]))
    _print(table)
    print(READING)


def verdicts(rows: list[PlanRow]) -> "Table":
    """One line a strategy: whether it fits, GB left of GPU and host, the largest micro-batch, seconds a step."""
    table = _table("what fits", ["fits", "left GPU", "left host", "batch", "s/step"])
    table.add_column("remark")
    for row in rows:
        margins = row["margin"]["device_bytes"], row["margin"]["host_bytes"]
        left = ["" if margin is None else f"{margin / 1e9:.1f}" for margin in margins]
        fits = "[green]yes[/]" if row["fits"] else "[red]no[/]"
        seconds = "?" if row["seconds_per_step"] is None else f"{row['seconds_per_step']:.1f}"
        batch = str(row["largest_micro_batch"]) if row["fits"] else "-"
        remark = row["note"] if row["fits"] else row["reason"]
        table.add_row(row["name"], fits, *left, batch, seconds, remark)
    return table


def show_published() -> None:
    """Print the study's statements on memory beside the exact numbers for its own model."""
    from rich.table import Table

    from medsft.models.parameter_counts import known_config
    from medsft.source_study import memory_claims

    title = f"The source study's memory ({memory_claims.STUDY_MODEL}, one 80 GB A100, 167 GB host), GB = 10^9 bytes"
    table = Table("statement", "published", "exact", "remark", title=title, title_justify="left")
    for claim in memory_claims.claims(known_config(memory_claims.STUDY_MODEL)):
        table.add_row(*claim)
    _print(table)


def summary(hardware: Hardware) -> str:
    """The machine on one line: GPUs, host memory and disk."""
    gpus = f"{hardware.gpus} x {hardware.gpu} ({hardware.device_bytes / 1e9:.1f} GB)" if hardware.gpus else "no GPU"
    machines = f"{hardware.nodes} machines, each " if hardware.nodes > 1 else ""
    return f"{machines}{gpus}, host {hardware.host_bytes / 1e9:.1f} GB, disk {hardware.disk_bytes / 1e9:.0f} GB"


def _table(title: str, numbers: list[str]) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("strategy", no_wrap=True)
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _gb(sizes: list[int]) -> list[str]:
    return [f"{size / 1e9:.1f}" if size else "" for size in sizes]


def _print(table: "Table") -> None:
    from rich.console import Console

    Console(width=shutil.get_terminal_size((100, 24)).columns).print(table)
