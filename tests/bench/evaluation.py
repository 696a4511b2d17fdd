"""Cost of the evaluation: answering in batches and one by one, and scoring 1,800 answers.

    python tests/bench/evaluation.py --output runs/bench/evaluation.json [--rows 32] [--answers 1800]

Two minutes on two cores for the answers of the embedded 135M model, and as much for the scores.
"""

import argparse
import random
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "recipes"), str(ROOT / "tests")]

import psutil  # noqa: E402

import corpus  # noqa: E402
from medsft.arguments import GenerateArguments, ScoreArguments  # noqa: E402
from medsft.data.reading.sources import SAMPLE  # noqa: E402
from medsft.evaluation.metrics import bertscore, modules  # noqa: E402
from medsft.evaluation.statistics import intervals, paired_tests  # noqa: E402
from medsft.files import read_jsonl, write_json  # noqa: E402
from medsft.inference import generation  # noqa: E402
from medsft.models import embedded  # noqa: E402

# The target of three minutes for 1,800 answers is for these; the other modules are timed as well.
COUNTED = ("rouge", "bertscore", "chrf", "behaviour", "resampling")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="runs/bench/evaluation.json")
    parser.add_argument("--rows", type=int, default=32, help="patients to answer")
    parser.add_argument("--answers", type=int, default=1800, help="answers to score")
    args = parser.parse_args()
    result = {"generation": generation_speed(args.rows), "scoring": scoring_speed(args.answers)}
    Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    write_json(Path(args.output), result)
    print(result)


def generation_speed(count: int = 32, batch_size: int = 16, max_new_tokens: int = 64) -> dict[str, Any]:
    """New tokens a second of the embedded model's greedy answers to `count` patients of the sample: by generate.py's
    code in batches and one by one, and by transformers' `generate` on each prompt alone.
    """
    rows = [
        {"id": i, "group": i, "source": "sample", "messages": [
            {"role": "user", "content": row["patient_message"]}, {"role": "assistant", "content": ""}]}
        for i, row in enumerate(islice((r for r in read_jsonl(SAMPLE) if _answerable(r)), count))
    ]  # fmt: skip
    args = GenerateArguments(max_new_tokens=max_new_tokens)
    answerer = generation.load(args)
    prompts = generation.encode([row["messages"][:1] for row in rows], answerer.tokenizer)
    generation.complete(answerer, prompts[:1], 4)  # the first call of all compiles and allocates
    result: dict[str, Any] = {"rows": count, "max_new_tokens": max_new_tokens, "batch_size": batch_size, **_machine()}
    for name, size in (("one_by_one", 1), ("batched", batch_size)):
        args.batch_size, started = size, time.monotonic()
        answered = [row for (batch,) in generation.answers(answerer, rows, set(), args) for row in batch]
        seconds, tokens = time.monotonic() - started, sum(row["new_tokens"] for row in answered)
        result |= {f"{name}_tokens_per_second": round(tokens / seconds, 1), f"{name}_new_tokens": tokens}
    result["plain_tokens_per_second"] = _plain_speed(answerer, prompts, max_new_tokens)
    result["times_one_by_one"] = result["batched_tokens_per_second"] / result["one_by_one_tokens_per_second"]
    result["times_plain"] = result["batched_tokens_per_second"] / result["plain_tokens_per_second"]
    return result


def _answerable(row: dict[str, Any]) -> bool:
    """The sample has rows that are not text, for the data stage to set aside."""
    return isinstance(row["patient_message"], str) and bool(row["patient_message"].strip())


def _plain_speed(answerer: generation.Answerer, prompts: list[list[int]], max_new_tokens: int) -> float:
    """New tokens a second of `model.generate` called once a prompt, as a notebook does."""
    import torch

    started, produced = time.monotonic(), 0
    for prompt in prompts:
        with torch.inference_mode():
            output = answerer.network.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                pad_token_id=answerer.tokenizer.pad_token_id,
            )
        produced += output.shape[1] - len(prompt)
    return produced / (time.monotonic() - started)


def scoring_speed(count: int = 1800, resamples: int = 10_000, seed: int = 0) -> dict[str, Any]:
    """Seconds of each metric module over `count` generated answers of MedDialog's lengths, of the intervals, and of
    the paired comparison with as many others. `counted_seconds` is the sum of COUNTED, `all_seconds` of everything,
    `processor_seconds` the same of all threads together, which other work on the machine does not lengthen.
    """
    rows = [row for row in corpus.rows(2 * count + count // 10, seed) if row["patient_message"]][: 2 * count]
    answers = [row["doctor_response"] for row in rows]
    predictions, references = answers[:count], answers[count:]
    prompts = [row["patient_message"] for row in rows[:count]]
    options: dict[str, Any] = {
        "batch_size": ScoreArguments().bert_batch_size,
        "corrected": True,
        "prompts": prompts,
        "stopped": [True] * count,
        "train": references[::-1],
    }
    processor, started = time.process_time(), time.monotonic()
    options["encoder"] = bertscore.load_encoder(embedded.MINILM, None)
    for name in modules.names():
        modules.load(name)
    seconds, columns = {"loading": time.monotonic() - started}, {}
    for name in modules.names():
        started = time.monotonic()
        columns |= modules.score(name, predictions, references, **options)
        seconds[name] = time.monotonic() - started
    started = time.monotonic()
    groups = [*range(count)]
    intervals.summarise(columns, groups, resamples, 0.95, seed)
    shuffled = {name: random.Random(seed).sample(values, count) for name, values in columns.items()}
    paired_tests.paired_comparisons(columns, shuffled, groups, resamples, 0.95, seed)
    seconds["resampling"] = time.monotonic() - started
    return {
        "answers": count,
        "resamples": resamples,
        "metrics": len(columns),
        "words_per_answer": sum(len(text.split()) for text in predictions) / count,
        **_machine(),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "counted_seconds": round(sum(seconds[name] for name in COUNTED), 1),
        "all_seconds": round(sum(seconds.values()), 1),
        "processor_seconds": round(time.process_time() - processor, 1),
    }


def _machine() -> dict[str, Any]:
    import torch

    cores = len(psutil.Process().cpu_affinity() or [])
    return {"cores": cores, "threads": torch.get_num_threads(), "load_before": round(psutil.getloadavg()[0], 1)}


if __name__ == "__main__":
    main()
