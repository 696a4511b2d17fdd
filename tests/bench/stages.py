"""What starts, answers, scores and grows: seconds to start, tokens a second, cost at 1, 10 and 100 times the sample.

python tests/bench/stages.py --rounds 5 --output runs/bench/stages.json
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "recipes"), str(ROOT / "tests")]

import psutil  # noqa: E402

import corpus  # noqa: E402
from medsft.files import read_json, write_json  # noqa: E402

RECIPES = ROOT / "recipes"
SAMPLE = 388  # rows of the embedded sample
SCRIPTS = ("prepare_data", "plan_memory", "sft_lora", "sft_full", "generate", "score", "report", "chat", "export")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 10, 100], help="times the sample")
    parser.add_argument("--output", default="runs/bench/stages.json")
    args = parser.parse_args()
    folder = Path(args.output).parent
    folder.mkdir(parents=True, exist_ok=True)
    result = {"start": start(args.rounds), "answers": answers(folder / "study", args.rounds)}
    result["growth"] = growth(folder / "growth", args.sizes, max(1, args.rounds // 5))
    write_json(Path(args.output), result)


def start(rounds: int) -> dict[str, Any]:
    """Seconds of `--help` of every script and of importing what training needs; medians with the extremes."""
    commands = {f"{name}.py --help": [str(RECIPES / f"{name}.py"), "--help"] for name in SCRIPTS}
    commands["import trl"] = ["-c", "import torch, transformers, trl"]
    found: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, words in commands.items():
            found[name].append(timed(words)["seconds"])
    return {name: spread(seconds) for name, seconds in found.items()}


def answers(study: Path, rounds: int) -> dict[str, Any]:
    """New tokens a second of the embedded model (greedy, 16 rows at once), and rows scored a second."""
    at, config = ["--study_dir", str(study)], RECIPES / "configs" / "demo"
    timed([str(RECIPES / "prepare_data.py"), "--config", str(config / "data.yaml"), *at])
    generate = [str(RECIPES / "generate.py"), "--config", str(config / "generate.yaml"), *at, "--likelihood_rows", "0"]
    generate += ["--memorization_rows", "0", "--max_rows", "16", "--batch_size", "16"]
    speeds, scoring = [], []
    for _ in range(rounds):
        shutil.rmtree(study / "baseline", ignore_errors=True)
        (study / "comparison.json").unlink(missing_ok=True)
        timed([*generate, "--arm", "baseline"])
        speeds.append(read_json(study / "baseline" / "generation.json")["tokens_per_second"])
        scoring.append(timed([str(RECIPES / "score.py"), "--config", str(config / "score.yaml"), *at])["seconds"])
    return {"new_tokens_per_second": spread(speeds), "score_seconds_16_rows": spread(scoring)}


def growth(folder: Path, sizes: list[int], rounds: int) -> list[dict[str, Any]]:
    """Seconds and peak bytes of preparing, scoring and reporting at several sizes; the slope in a log-log plot.

    Answers are the doctors' own with words left out: scoring and report do not ask who wrote them.
    """
    rows = []
    for size in sizes:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        source, study = corpus.write(folder / "corpus.jsonl", SAMPLE * size, 0), folder / "study"
        at = ["--study_dir", str(study)]
        for number in range(rounds):
            shutil.rmtree(study, ignore_errors=True)
            cost = {"prepare": timed([str(RECIPES / "prepare_data.py"), "--data", str(source), *at])}
            report = read_json(study / "data" / "data_report.json")
            cost["of that, tokens counted"] = {"seconds": report["seconds"].get("tokens", 0.0), "bytes": 0}
            write_arms(study)
            cost["score"] = timed([str(RECIPES / "score.py"), *at, "--resamples", "2000"])
            cost["report"] = timed([str(RECIPES / "report.py"), *at])
            for stage, measured in cost.items():
                rows.append({"stage": stage, "rows": SAMPLE * size, "round": number, **measured})
                print(f"{stage} at {SAMPLE * size:,} rows: {measured['seconds']:.1f} s", flush=True)
        write_json(folder.with_name("growth_so_far.json"), rows)  # the next size takes ten times as long
    shutil.rmtree(folder, ignore_errors=True)
    return rows


def write_arms(study: Path) -> None:
    """Two arms that answer every held-out row."""
    from medsft.data.split_files import load_split

    for step, arm in ((2, "baseline"), (3, "lora")):
        (study / arm).mkdir()
        with (study / arm / "generations.jsonl").open("w", encoding="utf-8") as handle:
            for row in load_split(str(study), "test"):
                patient, doctor = row["messages"][-2]["content"], row["messages"][-1]["content"]
                words = doctor.split()
                said = " ".join(word for at, word in enumerate(words) if at % step)
                line = {"id": row["id"], "group": row["group"], "source": row["source"], "prompt": patient}
                line |= {"reference": doctor, "prediction": said, "stopped": True, "new_tokens": len(words)}
                handle.write(json.dumps(line, ensure_ascii=False) + "\n")


def timed(words: list[str]) -> dict[str, float]:
    """Wall seconds and peak resident bytes of a Python process and its children, what they share counted once."""
    started, peak = time.perf_counter(), 0
    with tempfile.TemporaryFile("w+", errors="replace") as said:  # a pipe that nobody reads stops its writer
        process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=said)
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                family = [watched, *watched.children(recursive=True)]
                peak = max(peak, sum(own(member) for member in family))
            except psutil.Error:  # it ended while it was looked at
                pass
            time.sleep(0.05)
        seconds = time.perf_counter() - started
        said.seek(0)
        if process.returncode:
            raise SystemExit(f"{' '.join(words)} failed: {said.read()[-1500:]}")
    return {"seconds": seconds, "bytes": float(peak)}


def own(process: psutil.Process) -> int:
    """Its resident bytes, with its part of those that it shares: forked processes share what was loaded before."""
    return process.memory_full_info().pss if sys.platform == "linux" else process.memory_info().rss


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values), "n": len(values)}


if __name__ == "__main__":
    main()
