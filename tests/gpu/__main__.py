"""Ten minutes on whatever GPU is here: does every path that only a GPU takes run, fit its plan, and how fast is it?

    python tests/gpu                              # make gpu-check: nine minutes, the first visible GPU
    python tests/gpu --minutes 20 --fresh         # make gpu-check MINUTES=20 FRESH=1: measure everything anew
    python tests/gpu --device cpu                 # make gpu-check DEVICE=cpu: the same at toy size, as without a GPU
    python tests/gpu --rows lora qlora            # make gpu-check ROWS="lora qlora": these, and what they need
    python tests/gpu --paste docs/speed.md        # write what was measured on a GPU into the page
    python recipes/plan_memory.py --calibrate runs/gpu_check/gpu_check.json     # let the memory plan learn from it

No hub and no account: random weights of the study model's shape, with fewer layers where it does not fit, trained by
the shipped scripts and recipes on the embedded sample. Writes runs/gpu_check/gpu_check.json after each row; a run that
was cut goes on with what is missing. Exit status 1 where a row that ran did not pass.
"""

import argparse
import os
import platform
import re
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RECIPES = HERE.parents[1] / "recipes"
sys.path[:0] = [str(HERE.parent), str(RECIPES)]


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured before")
    parser.add_argument("--wheels", type=Path, help="folder of wheels to install into a folder of their own")
    parser.add_argument("--rows", nargs="+", help="names of rows; all if not given")
    parser.add_argument("--layers", type=int, default=10**6, help="layers of a model at the most")
    parser.add_argument("--paste", type=Path, help="page to write the rows into; nothing is measured")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/gpu_check"))
    args = parser.parse_args(words)
    folder = args.output_dir.absolute()
    paths = [str(RECIPES)]
    if args.wheels:
        from gpu import wheels

        wheels.install(args.wheels, folder / "site")
        paths.append(str(folder / "site"))
        sys.path[:0] = paths
        os.environ["PATH"] = os.pathsep.join([f"{folder}/site/bin", os.environ["PATH"]])
    os.environ |= {"HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(paths)}
    from gpu import table
    from medsft.errors import UserError

    try:
        if args.paste:
            changed = table.paste(folder / "gpu_check.json", args.paste)
            print(f"{'written' if changed else 'already up to date'}: {args.paste}")
            return 0
        result = measure(args, folder)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    table.show(result)
    failed = [row["row"] for row in result["rows"] if row["status"] == "fail"]
    print(f"{folder}/gpu_check.json; " + (f"failed: {', '.join(failed)}" if failed else "all rows that ran pass"))
    return int(bool(failed))


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Every row that is missing and still fits the time, written to gpu_check.json as soon as it is known."""
    from gpu import check, rows, table
    from medsft.errors import UserError
    from medsft.files import read_json, write_json
    from medsft.hardware.specs import machine
    from medsft.models import embedded

    began, file, gpus = time.monotonic(), folder / "gpu_check.json", machine(folder).gpus
    if args.device == "cuda" and not gpus:
        raise UserError("DEVICE=cuda: nvidia-smi finds no GPU; on a processor: make gpu-check DEVICE=cpu")
    on_cpu = not gpus or args.device == "cpu"
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    os.environ["CUDA_VISIBLE_DEVICES"] = "" if on_cpu else first  # the check is of one
    here = machine(folder)
    there = environment(here.gpu if here.gpus else "")
    size = f"toy size, as {'asked' if gpus else 'no GPU is here'}" if on_cpu else "the study model's shape"
    print(f"gpu-check on {there['device']}, {size}; versions unlike the pinned ones: {there['unlike_pins'] or 'none'}")
    before = {} if args.fresh or not file.is_file() else read_json(file)
    alike = all(before.get("environment", {}).get(key) == there[key] for key in ("device", "versions"))
    known = {row["row"]: row for row in before.get("rows", []) if alike and row["status"] == "pass"}
    own = args.wheels / "tokenizer" if args.wheels else Path()
    tokenizer = str(own.absolute()) if own.name and own.is_dir() else embedded.SMOLLM2
    shared = check.Check(folder, on_cpu, here, tokenizer, ends=began + 60 * args.minutes, most=args.layers)
    wanted, pace = rows.entries(on_cpu, args.rows), 1.0
    result: dict[str, Any] = {"device": "cpu" if on_cpu else "cuda", "environment": there, "rows": []}
    for number, entry in enumerate(wanted, 1):
        row = known.get(entry.name)
        if row is None or (entry.name == "weights" and not (folder / "weights").is_dir()):
            row = one(entry, shared, result["rows"], pace, args.minutes)
            pace = row["seconds"] / entry.seconds if "seconds_per_step" in row else pace
        shared.tflops = row.get("tflops", shared.tflops)
        result["rows"].append(row)
        write_json(file, result)
        said = ", ".join(cell for cell in table.cells(row) if cell)
        left = max(0, shared.ends - time.monotonic())
        print(f"[{number:2}/{len(wanted)}] {said} ({row['seconds']:.0f} s; {left:.0f} s left)", flush=True)
    return result


def one(entry: Any, shared: Any, rows: list[dict[str, Any]], pace: float, minutes: float) -> dict[str, Any]:
    """Measure one row; whatever goes wrong is its result, and the next one's turn comes."""
    from gpu.check import NotMeasuredError, RowFailedError

    started, left, needed = time.monotonic(), max(0, shared.ends - time.monotonic()), entry.seconds * pace
    row: dict[str, Any] = {"row": entry.name, "status": "pass", "reason": ""}
    missing = [name for name in entry.needs if name not in {row["row"] for row in rows if row["status"] == "pass"}]
    shared.limit = (20 if shared.on_cpu else 4) * entry.seconds  # of one command
    try:
        if missing:
            raise NotMeasuredError(f"needs the row '{missing[0]}'")
        if needed > left:
            raise NotMeasuredError(
                f"needs about {needed:.0f} s, {left:.0f} s of MINUTES={minutes:g} are left: run it again"
            )
        row |= entry.measure(shared)
    except NotMeasuredError as reason:
        row |= {"status": "skipped", "reason": str(reason)}
    except RowFailedError as reason:
        row |= {"status": "fail", "reason": str(reason)}
    except Exception as error:  # a row must not cost the others their turn
        row |= {"status": "fail", "reason": f"{type(error).__name__}: {error}"}
    return row | {"seconds": round(time.monotonic() - started, 1), "date": datetime.now(UTC).isoformat("T", "seconds")}


def environment(gpu: str) -> dict[str, Any]:
    """The device by name, the driver, versions, and which of them are not the pinned ones."""
    from medsft.hardware.gpus import nvidia_smi
    from medsft.versions import versions

    info, found = Path("/proc/cpuinfo"), versions()
    name = re.search(r"model name\s*: (.+)", info.read_text() if info.exists() else "")
    processor = name[1] if name else platform.machine()
    pins = re.findall(r'"([\w-]+)==([\w.]+)"', (RECIPES.parent / "pyproject.toml").read_text(encoding="utf-8"))
    unlike = [f"{p} {found[p]} (pinned: {v})" for p, v in pins if found.get(p, v).split("+")[0] != v]
    return {
        "device": gpu or processor,
        "driver": nvidia_smi("driver_version")[0] if gpu else "",
        "versions": found,
        "unlike_pins": ", ".join(unlike),
        "date": datetime.now(UTC).date().isoformat(),
    }


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what is under way ends with it
    sys.exit(main())
