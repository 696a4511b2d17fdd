"""Training by these recipes beside other ways of doing the same work, interleaved round by round.

    python tests/bench/training.py --rounds 5 --methods lora qlora full --output runs/bench/training.json
    python tests/bench/training.py --rounds 2 --methods lora --rows 32                  # a short look
    python tests/bench/training.py --external llamafactory=/opt/lf/bin/python           # see external.py

Every way trains the embedded model once over the same rows of the embedded sample, in a process of its own: (a) these
recipes, (b) the source study's notebook (notebook.py), (c) TRL's own script with its defaults. Rates are over all steps
but the first; dev loss is over the doctors' tokens of the same dev rows afterwards, by one function for all.

The others come with bf16 by autocast. Where the processor multiplies faster in float32 they are told to use that, in
their favour: without bf16 instructions a step of theirs would take an hour. TRL's script as it comes is then measured
apart, over three rows of 32 tokens.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(ROOT / "recipes")]

import external  # noqa: E402
import ways  # noqa: E402
from ways import DEMO, WAYS  # noqa: E402

from medsft.files import read_json, write_json  # noqa: E402
from medsft.hardware.matmul_benchmark import prefers_bfloat16  # noqa: E402
from medsft.models import (  # noqa: E402
    embedded,
    loading,  # noqa: E402
)

BODY, HEAD = 106_203_456, 28_311_552  # multiplied weights of the embedded model: its layers, and its head


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--methods", nargs="+", default=["lora", "qlora", "full"])
    parser.add_argument("--ways", nargs="+", default=list(WAYS))
    parser.add_argument("--rows", type=int, default=48, help="training rows, a multiple of 16 and at least 32")
    parser.add_argument("--external", nargs="*", default=[], metavar="NAME=PYTHON", help="see tests/bench/external.py")
    parser.add_argument("--output", default="runs/bench/training.json")
    args = parser.parse_args()
    result = compare(args.methods, args.ways, args.rows, args.rounds, args.external, Path(args.output).parent)
    Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    write_json(Path(args.output), result)


def compare(
    methods: list[str], chosen: list[str], rows: int, rounds: int, others: list[str], folder: Path
) -> dict[str, Any]:
    """Medians, lowest and highest of every way and method, and the matrix products' speed at that time."""
    pythons = dict.fromkeys(chosen, sys.executable) | external.parse(others)
    study = prepared(folder / "study", rows)
    as_it_comes = trl_as_it_comes(study) if "trl" in chosen else {}  # before the hours that a failure would lose
    runs: dict[str, list[dict[str, float]]] = {}
    peaks: list[dict[str, float]] = []
    for number in range(rounds):
        peaks.append(matrix_speed())
        for method in methods:
            for way, python in pythons.items():
                run = once(way, python, method, study, rows)
                runs.setdefault(f"{method} {way}", []).append(run)
                shown = f"{run['tokens_per_second']:.0f} tokens/s" if run else "not run"
                print(f"round {number + 1} of {rounds}: {method}, {WAYS.get(way, way)}: {shown}", flush=True)
        peak = statistics.median(max(p.values()) for p in peaks)
        result = {
            "precision": "bfloat16" if prefers_bfloat16() else "float32",
            "trl_as_it_comes": as_it_comes,
            "rows": rows,
            "rounds": number + 1,
            "load_after": os.getloadavg()[0],
            "peak_gflops": peaks,
            "runs": runs,
            "summary": {name: summarized([run for run in found if run], peak) for name, found in runs.items()},
        }
        write_json(folder / "training_rounds.json", result)  # a round may take half an hour
    print_table(result)
    return result


def prepared(study: Path, rows: int) -> Path:
    """The sample's split, and its first training rows as JSON Lines for the others."""
    command = [sys.executable, str(ROOT / "recipes" / "prepare_data.py"), "--config", str(DEMO / "data.yaml")]
    subprocess.run([*command, "--study_dir", str(study)], check=True, stdout=subprocess.DEVNULL)
    from medsft.data.split_files import load_split

    train = load_split(str(study), "train").select(range(rows)).select_columns("messages")
    (study / "rows").mkdir(exist_ok=True)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in train)
    (study / "rows" / "train.jsonl").write_text(lines, encoding="utf-8")
    return study


def once(way: str, python: str, method: str, study: Path, rows: int) -> dict[str, float]:
    """One run in a fresh folder; empty where another framework could not do it."""
    output, result = study / f"{method}_{way}", study / f"{method}_{way}.json"
    shutil.rmtree(output, ignore_errors=True)
    started = time.perf_counter()
    try:
        measured = watch(python, result, ways.command(way, method, study, rows, output))
    except RuntimeError as error:
        if way in WAYS:
            raise
        print(f"{way} could not do {method}: {error}", flush=True)
        return {}
    run = rates(measured, study, method) | {"wall_seconds": time.perf_counter() - started}
    saved = output / {"recipe": "model" if method == "full" else "adapter"}.get(way, ".")
    run["dev_loss"] = dev_loss(saved, study, method)
    shutil.rmtree(output, ignore_errors=True)
    return run


def watch(python: str, result: Path, words: list[str]) -> dict[str, Any]:
    """What watched.py saw of a training in its own process. Raises RuntimeError with its last words if it failed."""
    command = [python, str(HERE / "watched.py"), str(result), *words]
    quiet = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "AXOLOTL_DO_NOT_TRACK": "1"}  # axolotl calls home otherwise
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **quiet})
    if done.returncode:
        raise RuntimeError(f"{' '.join(words[:3])} failed: {(done.stderr.strip() or 'no word')[-1500:]}")
    return dict(read_json(result))


def trl_as_it_comes(study: Path) -> dict[str, float]:
    """Real tokens a second of TRL's script for LoRA in bf16 where float32 is faster; empty where it is not."""
    if prefers_bfloat16():
        return {}
    few, output = study / "few_rows", study / "trl_as_it_comes"
    few.mkdir(exist_ok=True)
    lines = (study / "rows" / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (few / "train.jsonl").write_text("".join(lines[:3]), encoding="utf-8")
    words = [*ways.trl_script(loading.resolve(embedded.SMOLLM2), few, output), "--use_peft"]
    words += ["--max_length", "32", "--per_device_train_batch_size", "1"]
    measured = watch(sys.executable, output.with_suffix(".json"), words)
    shutil.rmtree(output, ignore_errors=True)
    return {"tokens_per_second": rates(measured, study, "lora")["tokens_per_second"]}


def rates(measured: dict[str, Any], study: Path, method: str) -> dict[str, float]:
    """Rates of a run over all steps but the first.

    `gflops` counts what the doctors' loss needs, whatever a way really does: per real token 2 operations forward and 2
    backward for each weight of the layers (2 more where weights are trained), and the head's at the doctors' tokens.
    """
    tokens = read_json(study / "data" / "data_report.json")["tokens"]["train"]
    answers = tokens["answer"] / tokens["total"]
    steps = measured["steps"][1:]
    seconds = sum(step["seconds"] for step in steps)
    real = sum(step["tokens"] for step in steps)
    passes = 6 if method == "full" else 4
    return {
        "tokens_per_second": real / seconds,
        "answer_tokens_per_second": real * answers / seconds,
        "tokens_per_processor_second": real / sum(step["processor_seconds"] for step in steps),
        "padding": 1 - real / sum(step["positions"] for step in steps),
        "gflops": passes * real * (BODY + answers * HEAD) / seconds / 1e9,
        "tokens": float(sum(step["tokens"] for step in measured["steps"])),
        "resident": float(measured["resident"]),
        "start_seconds": measured["first_step"][0],
        "first_step_seconds": measured["first_step"][1],
    }


def dev_loss(saved: Path, study: Path, method: str, rows: int = 16) -> float:
    """Nats per answer token of the last answers of the first dev rows, in bf16 or float32 as this machine prefers."""
    from medsft.data.split_files import load_split
    from medsft.evaluation import likelihood
    from medsft.hardware import matmul_benchmark

    dtype = "bfloat16" if matmul_benchmark.prefers_bfloat16() else "float32"
    base = embedded.SMOLLM2 if (saved / "adapter_config.json").exists() else str(saved)
    network = loading.load_model(base, dtype, loading.nf4(dtype) if method == "qlora" else None)
    if base == embedded.SMOLLM2:
        from peft import PeftModel

        network = PeftModel.from_pretrained(network, str(saved))
    tokenizer = loading.load_tokenizer(embedded.SMOLLM2)
    dev = load_split(str(study), "dev").select(range(rows)).to_list()
    pad = tokenizer.pad_token_id
    found = likelihood.likelihood(tokenizer, dev, 4, lambda batch: likelihood.batch_nll(network.eval(), batch, pad))
    return sum(row["nll"] for row in found) / sum(row["tokens"] for row in found)


def matrix_speed() -> dict[str, float]:
    """GFLOP/s of square products now, at the size where they are fastest, in a process of its own."""
    code = "from medsft.hardware.matmul_benchmark import fastest; print(fastest('float32'), fastest('bfloat16'))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "recipes")}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return dict(zip(("float32", "bfloat16"), map(float, said.stdout.split()), strict=True))


def summarized(found: list[dict[str, float]], peak: float) -> dict[str, Any]:
    """{measure: {median, low, high}} over the rounds, and the share of the peak."""
    if not found:
        return {}
    summary = {key: spread([run[key] for run in found]) for key in found[0]}
    return {"n": len(found), **summary, "share_of_peak": summary["gflops"]["median"] / peak}


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def print_table(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    title = (
        f"{result['rows']} rows, {result['rounds']} rounds, {result['precision']}, "
        f"load {result['load_after']:.1f} afterwards"
    )
    names = "tokens/s", "a processor second", "GB", "dev loss", "first step", "of peak"
    table = Table("method", "way", *names, title=title)
    for name, found in result["summary"].items():
        method, way = name.split(" ", 1)
        if not found:
            table.add_row(method, way, *["not run"] * 6)
            continue
        speed = found["tokens_per_second"]
        table.add_row(
            method,
            WAYS.get(way, way),
            f"{speed['median']:.0f} [{speed['low']:.0f}, {speed['high']:.0f}]",
            f"{found['tokens_per_processor_second']['median']:.0f}",
            f"{found['resident']['median'] / 1e9:.1f}",
            f"{found['dev_loss']['median']:.3f}",
            f"{found['start_seconds']['median']:.0f} to {found['first_step_seconds']['median']:.0f} s",
            f"{found['share_of_peak']:.0%}",
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
