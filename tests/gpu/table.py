"""The rows as a table on the terminal and on a page of the documentation."""

from pathlib import Path

from gpu.check import Row
from medsft.errors import UserError
from medsft.files import read_json, write_text

BEGIN, END = "<!-- gpu-check: python tests/gpu --paste docs/speed.md -->", "<!-- end of gpu-check -->"
GPU = "**On one "  # a section of the page begins with it and the GPU's name
HEADS = ["row", "layers", "device GB: plan; allocated, reserved, in use", "host GB: plan; measured", "s a step",
         "tokens/s", "of the peak", "result"]  # fmt: skip


def cells(row: Row) -> list[str]:
    """One line of the table; what a row does not have is empty."""
    plan, found = row.get("predicted", {}), row.get("measured", {})
    device = [found.get(name) for name in ("allocated_bytes", "reserved_bytes", "device_bytes")]
    share, seconds, speed = row.get("share_of_peak"), row.get("seconds_per_step"), row.get("tokens_per_second")
    said = {"tflops": "{:.4g} TFLOP/s", "losses_differ_by": "losses differ by {:.2g}"}
    notes = [text.format(row[name]) for name, text in said.items() if name in row]
    reason = [row[name] for name in ("note", "reason") if row.get(name)]
    return [
        row["row"],
        f"{row['layers']}" if "layers" in row else "",
        _gb(plan.get("device_bytes"), *device),
        _gb(plan.get("host_bytes"), found.get("host_bytes")),
        f"{seconds:.3g}" if seconds else "",
        f"{speed:,.0f}" if speed else "",
        f"{share:.0%}" if share else "",
        "; ".join([row["status"], *notes, *reason]),
    ]


def _gb(plan: int | None, *found: int | None) -> str:
    """'18.40; 17.02, 17.61'; '' where nothing was measured."""
    measured = ", ".join(f"{size / 1e9:.2f}" if size else "-" for size in found)
    return f"{plan / 1e9:.2f}; {measured}" if plan else ""


def show(result: Row) -> None:
    """Print all rows."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*HEADS)
    for row in result["rows"]:
        table.add_row(*cells(row))
    print(about(result))
    Console(width=max(Console().width, 120)).print(table)


def about(result: Row) -> str:
    """What was measured with what, in one line."""
    there = result["environment"]
    driver = f"driver {there['driver']}, " if there["driver"] else ""
    packages = ", ".join(f"{name} {version}" for name, version in there["versions"].items())
    return f"{there['device']}, {driver}{packages}, {there['date']}"


def paste(file: Path, page: Path) -> bool:
    """Write the rows of `file` between the marks of `page`, instead of those of the same GPU; True if that changed it.

    Raises UserError where they are of a processor, and without marks.
    """
    result = read_json(file)
    if result["device"] != "cuda":
        raise UserError(f"{file}: measured on a processor; the page is for GPUs: run make gpu-check where there is one")
    text = page.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise UserError(f"{page}: expected one line '{BEGIN}' and one '{END}'")
    before, rest = text.split(BEGIN)
    inside, after = rest.split(END)
    own = f"{GPU}{result['environment']['device']}**"
    others = [GPU + part for part in inside.split(GPU)[1:] if not (GPU + part).startswith(own)]
    ran = [row for row in result["rows"] if row["status"] != "skipped"]
    lines = [f"| {' | '.join(HEADS)} |", "|---" * len(HEADS) + "|", *(f"| {' | '.join(cells(row))} |" for row in ran)]
    section = "\n".join([f"{own}: {about(result)}", "", *lines, "", ""])
    new = f"{before}{BEGIN}\n\n{''.join([*others, section]).strip()}\n\n{END}{after}"
    if new != text:
        write_text(page, new)
    return new != text
