"""All benchmarks of this project, or some: python tests/bench (make bench).

    python tests/bench                                   # all, five rounds
    python tests/bench --only training stages            # make bench BENCH="training stages"
    python tests/bench --short                           # two rounds, LoRA, small sizes (make bench SHORT=1)
    python tests/bench --only training --methods lora --rows 32    # part of the longest one
    python tests/bench --only stages --sizes 1 10 30     # growth to 30 times the sample (100: an hour of scoring)
    python tests/bench --external NAME=PYTHON            # LLaMA-Factory or axolotl: external.py

Writes bench.json, bench.md and bench.png into the output folder. Wall times are worth as much as the machine is quiet:
every part notes the load. Ratios between things that were run side by side, round by round, are worth more.
"""

import argparse
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "recipes")]

from medsft.files import read_json, write_json, write_text  # noqa: E402

PARTS = ("training", "stages", "data", "memory", "evaluation", "statistics", "operators", "qlora_7b", "demo")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=None)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--external", nargs="*", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--methods", nargs="+", default=None, help="of the training part: lora, qlora, full")
    parser.add_argument("--ways", nargs="+", default=None, help="of the training part: recipe, notebook, trl")
    parser.add_argument("--rows", type=int, default=None, help="of the training part: a multiple of 16, at least 32")
    parser.add_argument("--sizes", type=int, nargs="+", default=None, help="of the stages part: times the sample")
    parser.add_argument("--output_dir", default="runs/bench")
    args = parser.parse_args()
    folder = Path(args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    known = folder / "bench.json"
    result: dict[str, Any] = read_json(known) if known.is_file() else {}
    result["machine"] = {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
    }
    for part in args.only or PARTS[: -2 if args.short else None]:
        started = time.monotonic()
        print(f"--- {part}", flush=True)
        name = " ".join([part, *(args.methods or [])]) if part == "training" else part
        result[name] = measure(part, args, folder)
        result[name] |= {"seconds": round(time.monotonic() - started), "short": args.short, "load": os.getloadavg()[0]}
        write_json(known, result)  # what is known so far stays, whatever happens to the next part
    write_text(folder / "bench.md", table(result))
    draw(result, folder / "bench.png")
    print(f"{known}, bench.md, bench.png")


def measure(part: str, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The numbers of one part."""
    short, rounds = args.short, 2 if args.short else 5
    if part == "training":
        import training

        methods = args.methods or (["lora"] if short else ["lora", "qlora", "full"])
        rows = args.rows or (32 if short else 48)
        return training.compare(methods, args.ways or list(training.WAYS), rows, rounds, args.external, folder)
    if part == "stages":
        import stages

        sizes = args.sizes or ([1, 5] if short else [1, 10, 100])
        growth = stages.growth(folder / "growth", sizes, 1)
        return {"start": stages.start(rounds), "answers": stages.answers(folder / "study", rounds), "growth": growth}
    if part == "operators":
        import operators

        return operators.measure(args.methods or ["lora", "qlora", "full"])
    if part == "demo":
        import demo

        return demo.measure()
    if part == "data":
        import data

        found = data.measure(2_000 if short else 20_000, 50 if short else 300)
        data.print_tables(found)
        return found
    if part == "memory":
        import memory

        return {"allocator": memory.against_allocator(memory.STEPS[:2])} if short else memory.results()
    if part == "qlora_7b":  # ten minutes, left out of the short round
        import qlora_7b

        return qlora_7b.measure()
    if part == "statistics":
        import simulated_studies

        return simulated_studies.measure(200 if short else 2_000)
    import evaluation

    answers = 200 if short else 1_800
    return {"generation": evaluation.generation_speed(8 if short else 32), "scoring": evaluation.scoring_speed(answers)}


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def table(result: dict[str, Any]) -> str:
    """The training comparison, the coverage of intervals and the growth as Markdown."""
    lines = [f"{result['machine']['processor']}, {result['machine']['cores']} cores", ""]
    for name, training in result.items():
        if name.startswith("training"):
            lines += training_table(training)
    if statistics := result.get("statistics"):
        import simulated_studies

        lines += simulated_studies.table(statistics)
    if steps := result.get("operators"):
        import operators

        lines += ["where a training step goes, by operator", "", operators.table(steps), ""]
    if whole := result.get("demo"):
        import demo

        lines += ["make demo, its environment made before", "", demo.table(whole["seconds_of"]), ""]
    if stages := result.get("stages"):
        lines += ["| stage | rows | seconds | peak memory |", "|---|--:|--:|--:|"]
        for row in stages["growth"]:
            memory = f"{row['bytes'] / 1e9:.2f} GB" if row["bytes"] else ""  # of a part none
            lines.append(f"| {row['stage']} | {row['rows']:,} | {row['seconds']:.1f} | {memory} |")
        lines += ["", "| start | seconds, median [low, high] |", "|---|--:|"]
        lines += [f"| {n} | {s['median']:.2f} [{s['low']:.2f}, {s['high']:.2f}] |" for n, s in stages["start"].items()]
    return "\n".join(lines) + "\n"


def training_table(training: dict[str, Any]) -> list[str]:
    """Every way's speed, memory and dev loss, as lines of Markdown."""
    rows, rounds, precision = training["rows"], training["rounds"], training["precision"]
    lines = [f"{rows} rows, {rounds} rounds, {precision}, load {training['load']:.1f}", ""]
    lines += ["| method | way | real tokens/s [low, high] | times this | memory | dev loss | first step | of peak |"]
    lines += ["|---|---|--:|--:|--:|--:|--:|--:|"]
    for name, found in training["summary"].items():
        method, way = name.split(" ", 1)
        if not found:
            lines.append(f"| {method} | {way} | not run | | | | | |")
            continue
        speed, ours = found["tokens_per_second"], training["summary"].get(f"{method} recipe", found)
        lines.append(
            f"| {method} | {way} | {speed['median']:.0f} [{speed['low']:.0f}, {speed['high']:.0f}] "
            f"| {ours['tokens_per_second']['median'] / speed['median']:.1f} "
            f"| {found['resident']['median'] / 1e9:.1f} GB "
            f"| {found['dev_loss']['median']:.3f} | {found['start_seconds']['median']:.0f} to "
            f"{found['first_step_seconds']['median']:.0f} s "
            f"| {found['share_of_peak']:.0%} |"
        )
    if slow := training["trl_as_it_comes"]:
        speed = slow["tokens_per_second"]
        lines += ["", f"TRL's script left at bf16, LoRA, rows of 32 tokens: {speed:.2f} tokens/s"]
    return [*lines, ""]


def draw(result: dict[str, Any], path: Path) -> None:
    """Tokens a second by way; seconds and peak memory by rows, on logarithmic axes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (speed, seconds, memory) = pyplot.subplots(1, 3, figsize=(16, 4), layout="constrained")
    parts = [part["summary"] for name, part in result.items() if name.startswith("training")]
    draw_speeds(speed, {name: found for part in parts for name, found in part.items() if found})
    growth = result.get("stages", {}).get("growth", [])
    for stage in dict.fromkeys(row["stage"] for row in growth):
        measured = [row for row in growth if row["stage"] == stage]
        rows = [row["rows"] for row in measured]
        seconds.loglog(rows, [max(row["seconds"], 0.01) for row in measured], marker="o", label=stage)
        if any(row["bytes"] for row in measured):
            memory.loglog(rows, [row["bytes"] / 1e9 for row in measured], marker="o", label=stage)
    for axes, label in ((seconds, "seconds"), (memory, "peak memory of all processes, GB")):
        axes.set_xlabel("rows")
        axes.set_ylabel(label)
        if growth:
            axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def draw_speeds(axes: Any, summary: dict[str, Any]) -> None:
    speeds = [found["tokens_per_second"] for found in summary.values()]
    middle = [speed["median"] for speed in speeds]
    errors = [[s["median"] - s["low"] for s in speeds], [s["high"] - s["median"] for s in speeds]]
    if summary:
        axes.barh(list(summary), middle, xerr=errors)
        axes.invert_yaxis()
    axes.set_xlabel("real tokens a second, median and extremes")


if __name__ == "__main__":
    main()
