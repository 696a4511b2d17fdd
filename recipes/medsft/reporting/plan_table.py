"""The memory plan in the terminal: bytes of each strategy, whether it fits, and the source study's own numbers."""

import shutil
from typing import TYPE_CHECKING

from medsft.hardware.specs import Hardware
from medsft.records import Plan, PlanRow

if TYPE_CHECKING:
    from rich.table import Table

OF_DEVICE = ("weights", "gradients", "optimizer", "activations", "temporary", "context", "other")
OF_HOST = ("process", "training", "weights", "gradients", "optimizer", "temporary", "save")

READING = """\
Each row is one moment, the busiest; temporary is what lives only then. Left: of each GPU, of the host. Batch: the most
rows per device that fit. Seconds: a roofline, not a measurement. Pinned: those of the host's bytes that are
page-locked; 'if rounded': the host's total where torch pins them, in blocks of powers of two (with
DS_PIN_MEMORY_BACKEND=native DeepSpeed pins exact sizes)."""


def show(plan: Plan, hardware: Hardware) -> None:
    """Print the plan's three tables, how to read them, and the recommendation."""
    model, inputs, rows = plan["model"], plan["inputs"], plan["strategies"]
    print(f"{model['name']}: {model['parameters']:,} parameters on {summary(hardware)}")
    own = f", as in {plan['recipe']}" if plan["recipe"] else ""
    print(
        f"Peak of a step of {inputs['batch']} x {inputs['length']} tokens per device, "
        f"{'with' if inputs['checkpointing'] else 'without'} activation checkpointing{own}. LoRA of rank "
        f"{inputs['lora_r']} has {model['lora_parameters']:,} parameters ({model['lora_percent']:.3f} %)."
    )
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
    _print(verdicts(rows))
    print(READING)
    if plan["recommended"] is not None:
        row = next(r for r in rows if r["name"] == plan["recommended"])
        print(f"recommended: {row['name']}: {plan['recommended_reason']}")
        print(f"run it with: accelerate launch --config_file accelerate_configs/{row['accelerate_config']} ...")


def verdicts(rows: list[PlanRow]) -> "Table":
    """One line a strategy: fits or what is missing, what is left, the largest micro-batch, seconds, and its files."""
    table = _table("verdict", ["fits", "left GPU", "left host", "batch", "s/step"])
    for heading in ("accelerate config", "recipe", "remark"):
        table.add_column(heading, no_wrap=heading != "remark")
    for row in rows:
        margins = row["margin"]["device_bytes"], row["margin"]["host_bytes"]
        left = ["" if margin is None else f"{margin / 1e9:.1f}" for margin in margins]
        fits = "[green]yes[/]" if row["fits"] else "[red]no[/]"
        seconds = "?" if row["seconds_per_step"] is None else f"{row['seconds_per_step']:.1f}"
        batch = str(row["largest_micro_batch"]) if row["fits"] else "-"
        remark = row["note"] if row["fits"] else row["reason"]
        files = [name.removesuffix(".yaml") for name in (row["accelerate_config"], row["recipe"] or "")]
        table.add_row(row["name"], fits, *left, batch, seconds, *files, remark)
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
    return f"{gpus}, host {hardware.host_bytes / 1e9:.1f} GB, disk {hardware.disk_bytes / 1e9:.0f} GB"


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

    Console(width=max(150, shutil.get_terminal_size().columns)).print(table)
