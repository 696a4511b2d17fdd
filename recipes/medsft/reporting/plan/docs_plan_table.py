"""The table of docs/memory_plan.md: what fits which machine for the study's model, as Markdown between two marks."""

from dataclasses import replace
from pathlib import Path

from medsft.errors import UserError
from medsft.files import write_text
from medsft.hardware.specs import Hardware, described
from medsft.memory import planner
from medsft.memory.strategies import STRATEGIES
from medsft.models.parameter_counts import known_config

BEGIN = "<!-- ladder: python recipes/plan_memory.py --ladder_table docs/memory_plan.md -->"
END = "<!-- end of ladder -->"
MACHINES = [("a100-80gb", "167GB"), ("l40s", "256GB"), ("l40s", "128GB"), ("a100-40gb", "128GB"), ("a100-40gb", "64GB"),
            ("rtx4090", "128GB"), ("rtx4090", "64GB")]  # fmt: skip
MODEL, BATCH, LENGTH, RANK = "mistralai/Mistral-7B-Instruct-v0.2", 4, 512, 16


def table(here: Hardware) -> str:
    """One column a machine, one row a strategy: the largest micro-batch where it fits, a dash where it does not."""
    config = known_config(MODEL)
    assert config is not None
    columns = [replace(described(here, gpu, 1, host, "2TB"), cpus=16) for gpu, host in MACHINES]
    plans = [
        {r["name"]: r for r in planner.strategies(config, c, BATCH, LENGTH, lora_r=RANK, accumulates=True)}
        for c in columns
    ]
    heads = [f"{c.device_bytes / 1e9:.0f} GB GPU, {host} host" for c, (_, host) in zip(columns, MACHINES, strict=True)]
    lines = ["| | one GPU needs | host needs | " + " | ".join(heads) + " |", "|---" * (3 + len(heads)) + "|"]
    for name in STRATEGIES:
        if name not in plans[0]:
            continue
        row = plans[0][name]
        cells = [str(p[name]["largest_micro_batch"]) if p[name]["fits"] else "-" for p in plans]
        needs = f"{sum(row['device_bytes'].values()) / 1e9:.1f} GB | {row['host_bytes'] / 1e9:.0f} GB"
        lines.append(
            f"| {name}{' (2 TB NVMe only)' if STRATEGIES[name].swap else ''} | {needs} | {' | '.join(cells)} |"
        )
    best = [planner.recommend([*plan.values()], c)[0] or "nothing" for plan, c in zip(plans, columns, strict=True)]
    lines.append(f"| **recommended** | | | {' | '.join(best)} |")
    return "\n".join(lines)


def update(page: Path, here: Hardware) -> bool:
    """Write the table between the marks of `page`; True where that changed it. Raises UserError without marks."""
    return replace_between(page, BEGIN, END, table(here))


def replace_between(page: Path, begin: str, end: str, body: str) -> bool:
    """Put `body` between two marks of `page`; True where that changed it. Raises UserError without the marks."""
    text = page.read_text(encoding="utf-8")
    if text.count(begin) != 1 or text.count(end) != 1:
        raise UserError(f"{page}: expected one line '{begin}' and one '{end}'")
    before, rest = text.split(begin)
    new = f"{before}{begin}\n{body}\n{end}{rest.split(end)[1]}"
    if new != text:
        write_text(page, new)
    return new != text
