"""The cost of the data stage, and the recall and precision of de-identification.

    python tests/bench/data.py                                  # 20,000 generated rows
    python tests/bench/data.py --rows 251731                    # MedDialog's size
    python tests/bench/data.py --rows 251731 --output data.json --presidio_model en_core_web_sm

Prints the rows per second of each transform, the memory of all processes together, the time of a second run and of
runs with one option changed; then recall and precision of de-identification on identifiers planted by Faker (with 95 %
Wilson intervals), and its effect on the real corpora in ../shared where they are.

For other benchmarks: `measure(rows, count)` returns all of it as a plain dict; `speed(rows, seed)` and
`identifiers(count, seed)` are its halves.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "recipes"), str(ROOT / "tests")]

import corpus  # noqa: E402
import planted  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--planted", type=int, default=300, help="identifiers of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--presidio_model", default="", help="also measure Presidio with this spaCy model")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    result = measure(args.rows, args.planted, args.seed, args.presidio_model)
    print_tables(result)
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(result, indent=2) + "\n")


def measure(rows: int = 20_000, count: int = 300, seed: int = 0, presidio_model: str = "") -> dict[str, Any]:
    """{speed: ..., identifiers: {rules: ..., presidio: ...}}, all of it plain numbers, texts, lists and dicts."""
    result = {"speed": speed(rows, seed), "identifiers": {"rules": identifiers(count, seed)}}
    if presidio_model:
        result["identifiers"]["presidio"] = identifiers(count, seed, presidio_model)
    return result


def identifiers(count: int = 300, seed: int = 0, presidio_model: str = "") -> dict[str, Any]:
    """Recall by kind and precision on `count` planted identifiers of each kind; rows of real corpora touched."""
    found = planted.measure(count, seed, presidio_model)
    return found | {"shared": planted.on_real_corpora(ROOT.parent / "shared" / "data", presidio_model)}


def speed(count: int, seed: int) -> dict[str, Any]:
    """Rows per second of each transform and peak memory for `count` rows; seconds of runs again, and with changes."""
    with tempfile.TemporaryDirectory() as folder:
        source, study = corpus.write(Path(folder) / "corpus.jsonl", count, seed), Path(folder) / "study"
        base = ["--data", str(source), "--study_dir", str(study)]
        first = timed(base)
        report = json.loads((study / "data" / "data_report.json").read_text())
        runs = {"again": timed(base), "max_length 384": timed([*base, "--max_length", "384"])}
        runs["one rule less"] = timed([*base, "--skip_rules", "platform"])
        return {
            "rows": count,
            "seed": seed,
            "cores": len(psutil.Process().cpu_affinity() or []),
            "load_before": round(psutil.getloadavg()[0], 1),
            **first,
            "rows_per_second": {name: round(count / max(s, 0.01)) for name, s in report["seconds"].items()},
            "runs": runs,
            "kept": report["rows_kept"],
            "duplicates": report["duplicates"],
        }


def timed(arguments: list[str]) -> dict[str, float]:
    """Wall and processor seconds of prepare_data.py, and the most memory of its processes together, shared pages
    counted once (proportional set size), in bytes."""
    command = [sys.executable, str(ROOT / "recipes" / "prepare_data.py"), *arguments]
    started, peak, processor = time.perf_counter(), 0, 0.0
    running = psutil.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    while running.poll() is None:
        try:
            family = [running, *running.children(recursive=True)]
            peak = max(peak, sum(process.memory_full_info().pss for process in family))
            processor = max(processor, sum(sum(process.cpu_times()[:4]) for process in family[:1]))
        except psutil.Error:  # a process ended in between
            pass
        time.sleep(0.5)
    if running.returncode:
        sys.exit(running.returncode)
    return {"seconds": round(time.perf_counter() - started, 1), "processor_seconds": round(processor, 1), "pss": peak}


def print_tables(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console, run = Console(), result["speed"]
    table = Table("transform", "rows/s", title=f"{run['rows']:,} rows, {run['cores']} cores, load {run['load_before']}")
    for name, rate in run["rows_per_second"].items():
        table.add_row(name, f"{rate:,}")
    console.print(table)
    console.print(f"all of it: {run['seconds']} s, {run['pss'] / 1e9:.2f} GB in all processes")
    for name, again in run["runs"].items():
        console.print(f"{name}: {again['seconds']} s")
    for name, found in result["identifiers"].items():
        table = Table(
            "planted", "n", "found", "95 % interval", title=f"identifiers by Faker, {name}, seed {run['seed']}"
        )
        for kind, part in (found["recall"] | {"precision": found["precision"]}).items():
            table.add_row(kind, str(part["n"]), f"{part['share']:.3f}", f"[{part['low']:.3f}, {part['high']:.3f}]")
        console.print(table)
        for file, part in found["shared"].items():
            console.print(f"{file}: {part['rows_touched']} of {part['rows']} rows touched, {part['placeholders']}")


if __name__ == "__main__":
    main()
