"""What else did fine-tuning cost? Ask an arm the bundled suite: instructions, knowledge, refusal, short reasoning.

    python recipes/check_forgetting.py --config recipes/configs/demo/forgetting.yaml --arm baseline
    python recipes/check_forgetting.py --config recipes/configs/demo/forgetting.yaml --arm lora
    python recipes/check_forgetting.py --study_dir runs/demo --arm lora --items my_items.jsonl
    python recipes/check_forgetting.py --study_dir runs/demo --lm_eval_samples runs/demo/lm_eval

Answers are greedy, multiple choice is by likelihood. Writes STUDY_DIR/ARM/forgetting.jsonl (id, kind, correct, answer)
and forgetting.json; after an interruption the same command continues after the last finished batch. Before the first
arm is asked, the margin is declared in forgetting_plan.json. report.py pairs each arm with the baseline. The last form
reads what lm-evaluation-harness wrote for public suites instead, and asks nothing.
"""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, cast

from medsft.arguments import ForgettingArguments, GenerateArguments
from medsft.cli import run
from medsft.config import parse
from medsft.errors import UserError
from medsft.files import fingerprint, read_json
from medsft.records import Json

if TYPE_CHECKING:
    from medsft.evaluation.forgetting.answering import Row
    from medsft.evaluation.forgetting.items import Item

LOADED = ("dtype", "quantization", "engine", "max_new_tokens", "batch_size")  # options that decide an arm's answers
SCORING = ("answering", "choices", "constraints", "final_answer", "refusals")  # rows are made anew when they change


def main() -> None:
    (args,) = parse([ForgettingArguments])

    from medsft.evaluation.forgetting import items, study_files
    from medsft.inference import generation
    from medsft.versions import code_fingerprint, versions

    if args.lm_eval_samples:
        read_samples(Path(args.study_dir), Path(args.lm_eval_samples))
        return
    asked = items.chosen(args.items, args.items_per_kind)
    loading = generate_arguments(args)
    generation.check(loading)
    base, _, saved = generation.arm_base(loading)
    study = Path(args.study_dir)
    weights = study_files.weights_of(study, args.arm, base, saved)
    answering = {name: getattr(args, name) for name in LOADED}
    code = code_fingerprint(*(f"evaluation/forgetting/{name}.py" for name in SCORING))
    digest = fingerprint(answering, asked, weights, versions(), code)
    path = study / args.arm / study_files.SUITE
    record = path.with_suffix(".json")
    if path.is_file() and record.is_file() and read_json(record)["fingerprint"] == digest:
        print(f"already done: {path}")
        return
    plan = study_files.declare(study, args.margin, asked)
    if plan["margin"] != args.margin:
        print(f"the margin stays {plan['margin']:g}, as declared before the first arm was asked (not {args.margin:g})")
    rows, precision = ask(loading, asked, path, digest)
    made: Json = {"arm": args.arm, "weights": weights, "precision": precision, "settings": asdict(args)}
    made |= {"asked": {"margin": args.margin, "n": len(asked), "items": fingerprint(asked)}}
    made |= {"chances": study_files.chances(asked), "versions": versions(), "fingerprint": digest}
    study_files.write(path, rows, made)
    for left in path.parent.glob("forgetting.*.partial.jsonl"):
        left.unlink()
    print_accuracies(args.arm, rows)
    print(f"wrote {path}")


def generate_arguments(args: ForgettingArguments) -> GenerateArguments:
    """The options by which generate.py would load and ask the arm."""
    names = ("study_dir", "arm", "model_name_or_path", *LOADED)
    return GenerateArguments(**{name: getattr(args, name) for name in names})


def ask(loading: GenerateArguments, items: "list[Item]", path: Path, digest: str) -> "tuple[list[Row], str]":
    """The scored answers to all items, batch by batch into a part file first, and the precision of the weights."""
    from tqdm import tqdm

    from medsft.evaluation.forgetting import answering
    from medsft.inference import generation, part_files, shards

    part = part_files.part_file(path, digest, shards.Shard())
    part.parent.mkdir(parents=True, exist_ok=True)
    done = cast("dict[str | int, Row]", part_files.rows_of(part))
    part_files.end_torn_line(part)
    answerer = generation.load(loading)
    with tqdm(total=len(items), initial=len(done), desc=f"{loading.arm} forgetting", unit="item") as bar:
        for batch in answering.rows(answerer, items, set(done), loading.max_new_tokens, loading.batch_size):
            part_files.append(part, batch)
            bar.update(sum(row["id"] not in done for row in batch))
            done |= {row["id"]: row for row in batch}
    return [done[item["id"]] for item in items], answerer.precision


def read_samples(study: Path, folder: Path) -> None:
    """Write each arm's forgetting_public.jsonl from the samples that lm_eval wrote for it."""
    from medsft.evaluation.forgetting import lm_eval_samples, study_files
    from medsft.files import sha256_file

    for arm, found in lm_eval_samples.arms(folder).items():
        if not (study / arm).is_dir():
            raise UserError(f"{found}: no arm '{arm}' in {study}; name the folder after the arm that answered")
        rows, chances = lm_eval_samples.read(found)
        sources = {str(file.relative_to(folder)): sha256_file(file) for file in sorted(found.rglob("samples_*.jsonl"))}
        record: Json = {"arm": arm, "weights": study_files.weights_of(study, arm), "sources": sources}
        study_files.write(study / arm / study_files.PUBLIC, rows, record | {"chances": chances})
        print_accuracies(arm, rows)
    print(f"wrote {study}/*/{study_files.PUBLIC}")


def print_accuracies(arm: str, rows: "list[Row]") -> None:
    """One line: right answers of all, overall and by kind."""
    from medsft.evaluation.forgetting import comparison

    found = comparison.accuracies(rows, 0.95)
    print(f"{arm}: " + ", ".join(f"{kind} {each['correct']} of {each['n']}" for kind, each in found.items()))


if __name__ == "__main__":
    run(main, __doc__, ForgettingArguments)
