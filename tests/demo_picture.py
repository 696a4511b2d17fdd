"""Draw the demo's scores from the table in docs/results.md, by the report's own function: python tests/demo_picture.py.

The picture names the numbers it was drawn from, so that a test can tell when the table has changed since.
"""

import hashlib
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "recipes"))
PAGE = ROOT / "docs" / "results.md"
PICTURE = ROOT / "docs" / "images" / "demo_scores.png"
METRICS = ("rouge1", "rouge2", "rougeL", "bertscore_f1")
NAMES = {"baseline": "baseline", "LoRA": "lora", "QLoRA": "qlora", "full, ZeRO-3 offload": "full"}
VALUE = re.compile(r"([\d.]+) \[([\d.]+), ([\d.]+)\]")
DPI = 130


def read_table(text: str) -> dict[str, Any]:
    """The arms and naive baselines of the page's first table, as results.json has them."""
    rows = [line.strip("|").split("|") for line in text.splitlines() if VALUE.search(line) and line.startswith("|")]
    arms, naive = {}, {}
    for head, *cells in rows[:8]:
        found = [VALUE.search(cell) for cell in cells[: len(METRICS)]]
        scores = [
            dict(zip(("mean", "low", "high"), map(float, match.groups()), strict=True)) for match in found if match
        ]
        system = {"n": 44, "metrics": dict(zip(METRICS, scores, strict=True))}
        kind, _, name = head.strip().partition(": ")
        (naive if kind == "naive" else arms)[name or NAMES[kind]] = system
    return {"primary": [*METRICS], "arms": arms, "floors": naive}


def drawn_from(results: dict[str, Any]) -> str:
    """A digest of the numbers."""
    return hashlib.sha256(repr(results).encode()).hexdigest()[:16]


def draw(path: Path = PICTURE) -> None:
    from medsft.reporting import figures

    results = read_table(PAGE.read_text(encoding="utf-8"))
    path.parent.mkdir(exist_ok=True)
    metadata = {"Software": None, "Description": f"numbers of docs/results.md: {drawn_from(results)}"}
    figures.scores(results).savefig(path, dpi=DPI, metadata=metadata)


if __name__ == "__main__":
    draw()
