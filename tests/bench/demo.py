"""Where each second of `make demo` goes: by stage, and within answers and scores by what was running.

The environment must be there already. `python tests/bench/demo.py FILE` reads a terminal's lines, each behind its Unix
time, instead of running the demo.
"""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
STAGE = re.compile(r"^\[(\d) of 8\] ([^:.]*)")
# the last line of a part of the seventh stage
ENDS = {"answers": re.compile(r"(new tokens per second|already done): .*generations\.jsonl"),
        "scores": re.compile(r"wrote \S*comparison\.json"),
        "forgetting": re.compile(r"(wrote|already done:) \S*forgetting\.jsonl")}  # fmt: skip
Line = tuple[float, str]


def measure(study: str = "bench_demo") -> dict[str, Any]:
    """Run `make demo` anew as a user would; see `seconds`."""
    shutil.rmtree(ROOT / "runs" / study, ignore_errors=True)
    lines: list[Line] = []
    command = ["make", "--no-print-directory", "demo", f"STUDY={study}"]
    started = time.time()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout or ():
            lines.append((time.time(), line.rstrip()))
    if process.returncode:
        raise SystemExit(f"make demo ended with status {process.returncode}: {lines[-1][1] if lines else ''}")
    return {"seconds_of": seconds([*lines, (time.time(), "")], started)}


def seconds(lines: Iterable[Line], started: float) -> dict[str, float]:
    """Seconds by stage in the order of the demo; the seventh is split into answers, scores and forgetting."""
    found: dict[str, float] = {}
    stage, since = "before the first stage", started
    for at, text in lines:
        part = next((name for name, end in ENDS.items() if end.search(text)), None)
        if heading := STAGE.match(text):
            found[stage] = round(found.get(stage, 0) + at - since, 1)
            stage, since = heading[2], at
        elif part and stage.startswith("answers"):
            found[part] = round(found.get(part, 0) + at - since, 1)
            since = at
        last = at
    found[stage] = round(found.get(stage, 0) + last - since, 1)
    return found


def table(found: dict[str, float]) -> str:
    """Markdown: each part, its seconds and its share."""
    total = sum(found.values())
    rows = [f"| {name} | {value:.0f} | {value / total:.0%} |" for name, value in found.items()]
    return "\n".join(["| | seconds | share |", "|---|--:|--:|", *rows, f"| all | {total:.0f} | |"])


if __name__ == "__main__":
    words = (line.split(" ", 1) for line in Path(sys.argv[1]).read_text().splitlines() if line[:1].isdigit())
    stamped = [(float(at), text[0] if text else "") for at, *text in words]
    print(table(seconds(stamped, stamped[0][0])))
