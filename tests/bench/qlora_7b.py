"""QLoRA at the study's full size on this processor: two steps of a random Mistral-7B in NF4, by the shipped recipe.

    python tests/bench/qlora_7b.py [--output runs/bench/qlora_7b.json]

The graph is the real one (7,241,732,096 weights, 41,943,040 of them trainable), the weights are drawn at random, the
tokenizer is cut to 8,000 words. Needs 15 GB of disk and 16 GB of memory; ten minutes on two cores.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
sys.path.insert(0, str(RECIPES))
MISTRAL, LENGTH, STEPS = "mistralai/Mistral-7B-Instruct-v0.2", 256, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="runs/bench/qlora_7b.json")
    args = parser.parse_args()
    from medsft.files import write_json

    result = measure()
    Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    write_json(Path(args.output), result)
    print(json.dumps(result, indent=1))


def measure() -> dict[str, Any]:
    """Parameters, losses, seconds a step, and the peak of the process beside the plan's prediction, in bytes.

    `peak_anonymous` leaves out the pages of the mapped weight files, which the kernel evicts when it needs memory.
    """
    from medsft.models import parameter_counts
    from medsft.training import larger_than_memory

    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        config: Any = parameter_counts.known_config(MISTRAL)
        started = time.monotonic()
        larger_than_memory.write_random(config, small_tokenizer(), folder / "model", seed=42)
        drawn = time.monotonic() - started
        study = ("--study_dir", folder, "--model_name_or_path", folder / "model", "--max_length", LENGTH)
        _run("prepare_data.py", *study, "--max_rows", 60)
        flags: list[object] = ["--config", RECIPES / "configs" / "mistral_7b" / "qlora.yaml", *study]
        flags += ["--max_steps", STEPS, "--max_train_rows", STEPS, "--per_device_train_batch_size", 1]
        flags += ["--gradient_accumulation_steps", 1, "--optim", "adamw_torch", "--use_cpu", "true"]
        flags += ["--eval_strategy", "no", "--save_strategy", "no", "--logging_steps", 1]
        anonymous = _run("sft_lora.py", *flags)
        run = json.loads((folder / "qlora" / "train.json").read_text())
    return {
        "total_parameters": run["total_parameters"],
        "trainable_parameters": run["trainable_parameters"],
        "losses": [row["loss"] for row in run["history"] if "loss" in row],
        "tokens": run["tokens_seen"],
        "step_seconds": run["step_seconds"],
        "seconds_to_draw": round(drawn, 1),
        "peak_resident": run["peak_memory"]["host_bytes"],
        "peak_anonymous": anonymous,
        "predicted": run["predicted_memory"]["host_bytes"],
        "steps": run["steps"],
        "processors": len(os.sched_getaffinity(0)),
    }


def small_tokenizer() -> Any:
    """The embedded model's tokenizer and template with 8,000 words learnt from the sample, of Mistral's 32,000."""
    from medsft.models import embedded, loading

    rows = map(json.loads, (RECIPES / "sample" / "dialogues.jsonl").read_text(encoding="utf-8").splitlines())
    tokenizer = loading.load_tokenizer(embedded.SMOLLM2)
    return tokenizer.train_new_from_iterator((json.dumps(row, ensure_ascii=False) for row in rows), 8000)


def _run(script: str, *flags: object) -> int:
    """Run a recipe and return its peak of anonymous memory, sampled ten times a second."""
    process = psutil.Popen([sys.executable, str(RECIPES / script), *map(str, flags)])
    most = 0
    while process.poll() is None:
        try:
            memory = process.memory_info()
            most = max(most, memory.rss - memory.shared)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.1)
    if process.wait():
        raise SystemExit(f"{script} ended with status {process.returncode}")
    return most


if __name__ == "__main__":
    main()
