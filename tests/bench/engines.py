"""New tokens a second of the engines that can answer for one trained arm, side by side, round by round.

python tests/bench/engines.py --study_dir runs/demo --arm lora                  # of a study that is there
python tests/bench/engines.py --study_dir runs/demo --arm lora --rounds 5 --rows 64

transformers always; llama.cpp where `make .venv/.serving` has been, vLLM where `make .venv/.vllm` has. The study is
copied and stays as it is. Prints a table: medians with extremes, of greedy answers to the same rows.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "recipes"
sys.path[:0] = [str(Path(__file__).parent), str(RECIPES)]

from stages import spread  # noqa: E402

from medsft.files import read_json  # noqa: E402
from medsft.inference import llama_cpp  # noqa: E402

VLLM, LLAMA_CPP = ROOT / ".venv" / "vllm" / "bin" / "python", ROOT / ".venv" / "serving"
QUANTIZED = ("q8", "q4", "f16")  # ends of the names of llama.cpp's arms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study_dir", default="runs/demo")
    parser.add_argument("--arm", default="lora")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--new", type=int, default=128, help="tokens of an answer at the most")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder) / "study"
        for part in ("data", f"{args.arm}/adapter", f"{args.arm}/model", f"{args.arm}/train.json"):
            at = Path(args.study_dir) / part
            if at.is_dir():
                shutil.copytree(at, study / part)
            elif at.is_file():
                shutil.copy(at, study / part)
        print(table(measure(study, args)))


def measure(study: Path, args: argparse.Namespace) -> dict[str, list[tuple[float, float]]]:
    """{engine: (new tokens a second, seconds of the command) of each round}."""
    ways = {"transformers": (sys.executable, args.arm, ["--engine", "transformers"])}
    if LLAMA_CPP.is_dir():
        for short in QUANTIZED:
            kind = llama_cpp.KINDS[short]
            words = ["--study_dir", study, "--arm", args.arm, "--format", "gguf", "--quantize", kind]
            run(sys.executable, [RECIPES / "export.py", *words])
            ways[f"llama.cpp, {kind}"] = (sys.executable, f"{args.arm}_{short}", ["--engine", "gguf"])
    if VLLM.is_file():
        ways["vLLM"] = (str(VLLM), args.arm, ["--engine", "vllm"])
    few = ["--max_rows", args.rows, "--max_new_tokens", args.new, "--batch_size", args.rows]
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    plain = [Path(__file__).with_name("plain_answers.py"), study, args.arm, args.rows, args.new]
    for _ in range(args.rounds):
        if (study / args.arm / "adapter").is_dir():
            said, seconds = run(sys.executable, plain)
            found["transformers' own generate, 16 at once"].append((float(said.split()[-1]), seconds))
            print(f"generate: {float(said.split()[-1]):.0f} new tokens/s, {seconds:.0f} s", flush=True)
        for name, (python, arm, words) in ways.items():
            for file in (study / arm).glob("generation*"):
                file.unlink()
            _, seconds = run(python, [RECIPES / "generate.py", "--study_dir", study, "--arm", arm, *words, *few])
            record = read_json(study / arm / "generation.json")
            found[f"{name}, {record['precision']}"].append((record["tokens_per_second"], seconds))
            print(f"{name}: {record['tokens_per_second']:.0f} new tokens/s, {seconds:.0f} s", flush=True)
    return found


def run(python: str, words: list[object]) -> tuple[str, float]:
    """What a script says, and its seconds. Raises SystemExit with its last words where it fails."""
    env = os.environ | {"PYTHONPATH": f"{LLAMA_CPP}", "VLLM_LOGGING_LEVEL": "ERROR"}
    started = time.perf_counter()
    command = [python, *map(str, words)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr[-1500:]}")
    return done.stdout, time.perf_counter() - started


def table(found: dict[str, list[tuple[float, float]]]) -> str:
    """Markdown: a line for each engine, the fastest first."""
    lines = ["| engine, precision | new tokens/s | seconds of the command |", "|---|--:|--:|"]
    for name, rounds in sorted(found.items(), key=lambda pair: -max(pair[1])[0]):
        both = [spread(list(values)) for values in zip(*rounds, strict=True)]
        cells = [f"{each['median']:.0f} [{each['low']:.0f}, {each['high']:.0f}]" for each in both]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
