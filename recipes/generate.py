"""Let one arm answer the held-out patients.

    python recipes/generate.py --config recipes/configs/demo/generate.yaml --arm baseline
    python recipes/generate.py --study_dir runs/mistral_7b --arm lora --batch_size 32

Greedy by default. Writes STUDY_DIR/ARM/generations.jsonl; interrupted, the same command continues after the last
finished batch.
"""

import time
from dataclasses import asdict
from pathlib import Path

from medsft.arguments import GenerateArguments
from medsft.cli import parse, run
from medsft.files import fingerprint, read_json, write_json, write_jsonl


def main() -> None:
    (args,) = parse([GenerateArguments])

    from medsft import generation
    from medsft.preparation import load_split
    from medsft.versions import versions

    folder = Path(args.study_dir) / args.arm
    base, quantization, weights = generation.arm_base(args)
    data = read_json(Path(args.study_dir) / "data" / "data_report.json")["fingerprint"]
    trained = read_json(folder / "train.json")["fingerprint"] if weights else base
    mark = fingerprint({k: v for k, v in asdict(args).items() if k != "study_dir"}, data, trained, versions())
    record = folder / "generation.json"
    if record.exists() and read_json(record)["fingerprint"] == mark and (folder / "generations.jsonl").exists():
        print(f"already done: {folder}/generations.jsonl")
        return

    from tqdm import tqdm
    from transformers import set_seed

    split = load_split(args.study_dir, "test")
    rows = split.select(range(min(len(split), args.max_rows or len(split)))).to_list()
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"generations.{mark}.partial.jsonl"
    done = generation.finished(partial)
    todo = [row for row in rows if row["id"] not in done]

    set_seed(args.seed)
    answerer = generation.load(args)
    started, fresh = time.monotonic(), []
    with tqdm(total=len(rows), initial=len(done), desc=f"{args.arm} answers", unit="row") as bar:
        for batch in generation.answers(answerer, todo, args):
            generation.append(partial, batch)
            fresh += batch
            bar.update(len(batch))
    speed = generation.tokens_per_second(fresh, started)
    done |= {row["id"]: row for row in fresh}
    write_jsonl(folder / "generations.jsonl", [done[row["id"]] for row in rows])
    write_json(
        record,
        {
            "arm": args.arm,
            "base_model": base,
            "precision": answerer.precision,
            "n": len(rows),
            "tokens_per_second": speed,
            "settings": asdict(args),
            "versions": versions(),
            "fingerprint": mark,
        },
    )
    partial.unlink()
    print(f"{len(rows)} answers, {speed} new tokens per second: {folder}/generations.jsonl")


if __name__ == "__main__":
    run(main, __doc__, GenerateArguments)
