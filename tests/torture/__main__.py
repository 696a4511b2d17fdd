"""Attack every stage on purpose and record the outcome: python tests/torture (make torture).

    python tests/torture                                    # 50 kills a stage, 10,000 rows, 1,000 configurations
    python tests/torture --rounds 5 --rows 400 --configs 100        # shorter; the table shows the numbers
    python tests/torture --only kills damage

Works on a model of three million random weights in a temporary folder. Writes torture.json and torture.md. A fault is a
traceback, a hang, an exit status outside the contract, or a result that differs from the undisturbed run's. Checks that
depend on the machine's speed are repeated once where they fail; each repetition is printed, and counted at the end.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import stage

from retries import RETRIED, summary

PARTS = ("kills", "damage", "shortage", "fuzz", "hostile", "server")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50, help="kills a stage; a fifth of it for disks, damaged files")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--configs", type=int, default=1_000)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--output", default="runs/torture/torture.json")
    args = parser.parse_args()
    output = Path(args.output).absolute()
    output.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="torture_"))
    stage.load_libraries()
    try:
        rows = attack(args, folder, output)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    write(output, rows, args, started)
    print(summary())
    sys.exit(1 if any(row["failed"] for row in rows) else 0)


def attack(args: argparse.Namespace, folder: Path, output: Path) -> list[dict[str, Any]]:
    """All chosen attacks on one study; the outcomes so far are written after each of them."""
    import damage
    import fuzz
    import hostile
    import kills
    import server
    import shortage

    tiny, study, few = tiny_model(folder / "model"), folder / "study", max(2, args.rounds // 5)
    if set(args.only) - {"kills", "fuzz"}:
        finish(study, tiny)
    parts = {
        "kills": [lambda: kills.kills(folder / "killed", tiny, args.rounds)],
        "damage": [
            lambda: damage.damaged_files(study, tiny, 2 * few),
            lambda: [damage.damaged_checkpoints(study, tiny, few)],
            lambda: [damage.vanished(study, tiny)],
            lambda: [damage.clock_set_back(study, tiny)],
        ],
        "shortage": [
            lambda: shortage.full_disk(study, tiny, few),
            lambda: shortage.read_only(study, tiny),
            lambda: shortage.little_memory(study, tiny),
        ],
        "fuzz": [
            lambda: fuzz.fuzzed_rows(folder, tiny, args.rows),
            lambda: fuzz.fuzzed_configs(folder, args.configs),
        ],
        "hostile": [lambda: hostile.dialogues(folder, tiny), lambda: hostile.model_folders(study, tiny, folder)],
        "server": [lambda: server.chat(study)],
    }
    rows: list[dict[str, Any]] = []
    started = time.monotonic()
    for name in args.only:
        for run_attack in parts[name]:
            rows += run_attack()
            write(output, rows, args, started)
    return rows


def finish(study: Path, tiny: Path) -> None:
    """One undisturbed study, with a copy of the folder before each stage."""
    from kills import keep

    for name, words in stage.commands(study, tiny).items():
        study.mkdir(parents=True, exist_ok=True)
        keep(study, study.with_name("before_" + name))
        done = stage.run(words)
        print(f"undisturbed {name}: {done.seconds:.1f} s", flush=True)
        if done.status:
            raise SystemExit(f"{name} fails without an attack: {done.output[-1500:]}")


def tiny_model(folder: Path) -> Path:
    """A Llama of random weights with the embedded model's tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from medsft.models import embedded, loading

    tokenizer = loading.load_tokenizer(embedded.SMOLLM2)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write(output: Path, rows: list[dict[str, Any]], args: argparse.Namespace, started: float) -> None:
    sizes = {"rounds": args.rounds, "rows": args.rows, "configs": args.configs}
    record = {**sizes, "seconds": time.monotonic() - started, "retried": RETRIED, "attacks": rows}
    output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    lines = ["| attack | stage | rounds | failed | |", "|---|---|--:|--:|---|"]
    lines += [f"| {r['attack']} | {r['stage']} | {r['rounds']:,} | {r['failed']} | {r['note']} |" for r in rows]
    output.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
