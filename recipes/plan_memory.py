"""The memory plan: which way of fine-tuning fits which machine, before anything is loaded.

    python recipes/plan_memory.py                                             # the embedded model on this machine
    python recipes/plan_memory.py --model_name_or_path mistralai/Mistral-7B-Instruct-v0.2 \\
        --gpu a100-80gb --gpus 1 --host 167GB --disk 2TB                      # a machine you think of renting
    python recipes/plan_memory.py --gpu none --host 24GB                      # a laptop
    python recipes/plan_memory.py --as_published                              # beside the source study's Table 4

Each training step is traced on fake tensors (half a minute for 7B on two cores; kept for the next time).
Writes plan.json and plan.png into --output_dir (default: --study_dir) and names the accelerate config to use.
Exit status 3 where nothing fits, with what the least demanding strategy needs.
"""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medsft import __version__
from medsft.arguments import PlanArguments
from medsft.cli import DoesNotFit, UserError, parse, run
from medsft.files import fingerprint, read_json, write_json
from medsft.hardware import Hardware, described, machine


def main() -> None:
    (args,) = parse([PlanArguments])
    check(args)
    if args.ladder_table:
        from medsft.ladder_table import update

        changed = update(Path(args.ladder_table), machine("."))
        print(f"{'written' if changed else 'already up to date'}: {args.ladder_table}")
        return
    folder = Path(args.output_dir or args.study_dir)
    hardware = described(machine(folder), args.gpu, args.gpus, args.host, args.disk)
    plan = make_plan(args, hardware)
    show(plan, hardware)
    if args.as_published:
        show_published()
    save(plan, folder / "plan.json", hardware)
    if plan["recommended"] is None:
        raise DoesNotFit(f"no strategy fits {summary(hardware)}; {plan['recommended_reason']}")


def check(args: PlanArguments) -> None:
    """Raises UserError for numbers that no run can have."""
    for name in ("per_device_train_batch_size", "max_length", "lora_r"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name} {getattr(args, name)}: must be 1 or more")


def make_plan(args: PlanArguments, hardware: Hardware) -> dict[str, Any]:
    """The content of plan.json; `recommended` is None where nothing fits."""
    from medsft import memory
    from medsft.model import load_config

    name, rank = args.model_name_or_path, args.lora_r
    config = memory.known_config(name) or load_config(name)
    batch, length = args.per_device_train_batch_size, args.max_length
    strategies = memory.strategies(config, hardware, batch, length, rank)
    recommended, reason = memory.recommend(strategies, hardware)
    parameters, adapters = memory.count_parameters(config), memory.count_lora(config, rank)
    inputs = {"batch": batch, "length": length, "lora_r": rank, "gradient_checkpointing": True}
    # Memory in use and free bytes of the disk change by the minute; the plan changes with whole gigabytes of disk.
    steady = {k: v for k, v in asdict(hardware).items() if "available" not in k and k != "disk_bytes"}
    mark = fingerprint(__version__, config.to_dict(), inputs, steady, hardware.disk_bytes // 10**9)
    return {
        "model": {
            "name": name,
            "parameters": parameters,
            "lora_parameters": adapters,
            "lora_percent": round(100 * adapters / parameters, 4),
        },
        "inputs": inputs,
        "hardware": asdict(hardware),
        "strategies": strategies,
        "recommended": recommended,
        "recommended_reason": reason,
        "fingerprint": mark,
    }


def show(plan: dict[str, Any], hardware: Hardware) -> None:
    """Print the plan as a table, and the recommendation."""
    from rich.table import Table

    from medsft.memory import gb

    model, inputs = plan["model"], plan["inputs"]
    title = f"{model['name']}: {model['parameters']:,} parameters on {summary(hardware)}"
    table = Table(title=title, title_justify="left")
    for heading, side in (("strategy", "left"), ("GPU GB", "right"), ("host GB", "right"), ("disk GB", "right")):
        table.add_column(heading, justify=side, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("s/step", justify="right")
    table.add_column("batch", justify="right")
    for heading in ("fits", "why", "accelerate config"):
        table.add_column(heading)
    for row in plan["strategies"]:
        device = f"{sum(row['device_bytes'].values()) / 1e9:.1f}" if hardware.gpus else "-"
        pinned = row["host_bytes_pinned"]
        host = f"{row['host_bytes'] / 1e9:.1f}" + (f" to {pinned / 1e9:.1f}" if pinned > row["host_bytes"] else "")
        seconds = "?" if row["seconds_per_step"] is None else f"{row['seconds_per_step']:.1f}"
        fits = "[green]yes[/]" if row["fits"] else "[red]no[/]"
        why = row["reason"] + (f" ({row['note']})" if row["note"] else "")
        disk = f"{row['disk_bytes'] / 1e9:.1f}"
        largest = str(row["largest_micro_batch"]) if row["fits"] else "-"
        table.add_row(row["name"], device, host, disk, seconds, largest, fits, why, row["accelerate_config"])
    console().print(table)
    print(
        f"Peak of a step of {inputs['batch']} x {inputs['length']} tokens per device with checkpointing. LoRA of rank "
        f"{inputs['lora_r']} has {model['lora_parameters']:,} parameters ({model['lora_percent']:.3f} %).\n"
        "Host 'a to b': b where torch pins host memory for DeepSpeed in blocks of powers of two (DS_PIN_MEMORY_BACKEND="
        "native avoids that).\nSeconds: a roofline, not a measurement. Batch: the most rows per device that fit."
    )
    if plan["recommended"] is not None:
        row = next(r for r in plan["strategies"] if r["name"] == plan["recommended"])
        needs = f"GPU {gb(sum(row['device_bytes'].values()))}, " if hardware.gpus else ""
        print(f"recommended: {row['name']} ({needs}host {gb(row['host_bytes'])}): {plan['recommended_reason']}")
        print(f"run it with: accelerate launch --config_file accelerate_configs/{row['accelerate_config']} ...")


def show_published() -> None:
    """Print the study's statements on memory beside the exact numbers for its own model."""
    from rich.table import Table

    from medsft import published_memory
    from medsft.sizes import known_config

    title = f"The source study's memory ({published_memory.STUDY_MODEL}, one 80 GB A100, 167 GB host), GB = 10^9 bytes"
    table = Table("statement", "published", "exact", "remark", title=title, title_justify="left")
    for claim in published_memory.claims(known_config(published_memory.STUDY_MODEL)):
        table.add_row(*claim)
    console().print(table)


def save(plan: dict[str, Any], path: Path, hardware: Hardware) -> None:
    """Write plan.json, and plan.png beside it, unless the one that is there has the same inputs."""
    if path.is_file() and read_json(path).get("fingerprint") == plan["fingerprint"]:
        print(f"already done: {path}")
        return
    from medsft.memory_figure import draw

    draw(plan["strategies"], hardware, path.with_suffix(".png"))
    write_json(path, plan)
    print(f"written: {path} and {path.with_suffix('.png').name}")


def summary(hardware: Hardware) -> str:
    gpus = f"{hardware.gpus} x {hardware.gpu} ({hardware.device_bytes / 1e9:.1f} GB)" if hardware.gpus else "no GPU"
    return f"{gpus}, host {hardware.host_bytes / 1e9:.1f} GB, disk {hardware.disk_bytes / 1e9:.0f} GB"


def console() -> Any:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 150)


if __name__ == "__main__":
    run(main, __doc__, PlanArguments)
