"""Let one arm answer the held-out patients.

    python recipes/generate.py --config recipes/configs/demo/generate.yaml --arm baseline
    python recipes/generate.py --study_dir runs/mine --arm lora --test kqa      # a further test set, answered apart
    python recipes/generate.py --study_dir runs/mistral_7b --arm lora --batch_size 32 --do_sample true --seeds 1 2 3

Greedy answers go to STUDY_DIR/ARM/generations.jsonl, sampled ones in addition to ARM/sampled/seed_N.jsonl, those with a
penalty on repetition to ARM/penalised.jsonl. While the
model is loaded, likelihood.jsonl (how likely it finds the doctors' answers) and memorization.jsonl (whether it repeats
training answers verbatim) are measured. Before the first answer of a study its analysis plan is written
(analysis_plan.json), from the score.yaml beside the recipe. After an interruption the same command continues after the
last finished batch.
On several GPUs each answers a part of the rows, and the answers are the same:

    accelerate launch --num_processes 2 recipes/generate.py --study_dir runs/mistral_7b --arm lora

So do several machines, each by itself and whenever it comes to it; whoever finds all answers there puts them together:

    python recipes/generate.py --study_dir runs/mistral_7b --arm lora --shard 3 --shards 8    # the fourth of eight
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from medsft.arguments import GenerateArguments, ScoreArguments
from medsft.cli import run
from medsft.config import command_line, config_path, parse
from medsft.errors import UserError
from medsft.files import fingerprint, read_json, write_json
from medsft.inference import part_files, shards
from medsft.inference.part_files import ANSWERS
from medsft.inference.shards import Shard
from medsft.patches import python
from medsft.records import Question, SplitRow, Turn
from medsft.study import lineage
from medsft.study.names import TEST, answers_folder, existing_study

if TYPE_CHECKING:
    from medsft.inference.generation import Answerer, Sampling

# Options that change no answer: a run may go on with others of them.
NOT_ASKED = ("study_dir", "score_config", "test", "endpoint", "shard", "shards", "tensor_parallel")


def main() -> None:
    shards.keep_one_gpu()
    (args,) = parse([GenerateArguments])

    from medsft.data.split_files import load_split, split_of_test
    from medsft.evaluation import probing
    from medsft.inference import generation, generations_file, llama_cpp, prompting
    from medsft.models import loading
    from medsft.versions import versions

    generation.check(args)
    args = prompting.own_options(args)
    study = existing_study(args.study_dir)
    folder = answers_folder(study, args.test) / args.arm
    base, _, weights = generation.arm_base(args)
    source = llama_cpp.source_arm(args)
    lineage.check_trained(study, [source])
    split = load_split(args.study_dir, split_of_test(args.test))
    data = lineage.split_of(study, args.test)
    trained = read_json(study / source / "train.json")["fingerprint"] if weights else base
    options = {k: v for k, v in asdict(args).items() if k not in NOT_ASKED}
    options["served"] = bool(args.endpoint)  # at which addresses may change before a run goes on
    digest = fingerprint(options, data, trained, versions(), [*generations_file.FIELDS])
    record = folder / "generation.json"
    if record.exists() and read_json(record)["fingerprint"] == digest and (folder / ANSWERS).exists():
        print(f"already done: {folder}/{ANSWERS}")
        return

    shard = shards.join(args.shard, args.shards)
    rows = split.select(range(min(len(split), args.max_rows or len(split)))).to_list()
    if not shard.is_first:
        shard.wait()
    plan_hash = declare_plan(args, [row["id"] for row in rows])
    if shard.is_first:
        shard.wait()
    folder.mkdir(parents=True, exist_ok=True)
    if has_ended(folder, digest, [row["id"] for row in rows], shard):
        return
    answerer = generation.load(args)
    questions = {row["id"]: generations_file.question(row) for row in rows}
    ids = [*questions]
    if prompting.is_prompted(args.arm):
        rows = with_prompts(rows, args, answerer, shard)
    ways = generation.ways_of(args)
    tokens, seconds = answer(answerer, rows, questions, args, folder, digest, ways, shard)
    train = load_split(args.study_dir, "train") if args.test == TEST else []
    probed = probing.probe(answerer, rows, train, trained_rows(study / source), args, folder, digest, shard)
    if not shard.is_first:
        python.exit_without_teardown()
    write_json(
        part_files.share_record(folder, digest, shard),
        {
            "arm": args.arm,
            "base_model": base,
            "base_revision": loading.revision(base),
            "precision": answerer.precision,
            "device": generation.device_name(),
            "engine": answerer.engine,
            "engine_version": answerer.version,
            "n": len(rows),
            "processes": shard.count,
            "data": data,
            "trained": trained,
            "settings": asdict(args),
            "versions": versions(),
            "plan_hash": plan_hash,
            "fingerprint": digest,
            "asked": dict.fromkeys(ways, len(rows)) | probed,
            "new_tokens": tokens,
            "seconds": seconds,
        },
    )
    if put_together(folder, digest, ids, shard) and shard.shares == 1:
        raise UserError(f"{folder}: answers of other processes are not here; share the study's folder")
    if shard.count > 1:
        python.exit_without_teardown()


def has_ended(folder: Path, digest: str, ids: Sequence[str | int], shard: Shard) -> bool:
    """Whether nothing is left for this launch to answer. Then no model is loaded."""
    left = 0.0
    if shard.is_first and part_files.ended_shares(folder, digest):
        left = float(put_together(folder, digest, ids, shard))
    elif shard.is_first:
        left = 1.0
    ended = part_files.share_record(folder, digest, shard).exists() and shard.shares > 1
    if shard.is_first and ended and left:
        print(f"{folder}: share {shard.share + 1} of {shard.shares} is answered")
    left, own_ended = shard.total([left, float(shard.is_first and ended)])
    return not left or bool(own_ended)


def put_together(folder: Path, digest: str, ids: Sequence[str | int], shard: Shard) -> int:
    """Write the arm's files where all answers are there, and say so; returns how many are not."""
    missing = part_files.merge(folder, digest, ids)
    if not missing:
        speed = read_json(folder / "generation.json")["tokens_per_second"]
        print(f"{len(ids)} answers, {speed} new tokens per second: {folder}/{ANSWERS}")
    elif shard.shares > 1:
        print(f"{folder}: {missing} rows of other shares are not here yet; the last share to end puts all together")
    return missing


def with_prompts(rows: list[SplitRow], args: GenerateArguments, answerer: "Answerer", shard: Shard) -> list[SplitRow]:
    """The rows with the instructions and examples of a prompted arm before their messages."""
    from medsft.data.split_files import load_split
    from medsft.evaluation import naive_baselines
    from medsft.inference import prompting
    from medsft.models.loading import load_config

    shown: list[list[list[Turn]]] = [[] for _ in rows]
    if args.examples:
        train = load_split(args.study_dir, "train")
        if args.examples_by == prompting.NEAREST:
            asked, known = (
                [naive_baselines.asked_text(messages[:-1]) for messages in some]
                for some in ([row["messages"] for row in rows], train["messages"])
            )
            chosen = naive_baselines.nearest_rows(asked, known, args.examples)
        else:
            chosen = prompting.drawn(len(train), len(rows), args.examples)
        shown = [[train[at]["messages"] for at in reversed(some)] for some in chosen]
    positions = getattr(load_config(answerer.base_model).get_text_config(), "max_position_embeddings", None)
    found, fewer = prompting.prompted(rows, args, shown, answerer.tokenizer, (positions or 4096) - args.max_new_tokens)
    if fewer and shard.is_first:
        print(f"{fewer} questions have fewer than {args.examples} examples: the model has {positions} positions")
    return found


def declare_plan(args: GenerateArguments, rows: Sequence[str | int]) -> str:
    """Write the analysis plan before the first answer of the study, from the score.py options beside the recipe."""
    from medsft.evaluation import analysis_plan, comparability

    argv = command_line()
    beside = config_path(argv).parent / args.score_config if "--config" in argv else None
    named = ["--config", str(beside)] if beside is not None and beside.is_file() else []
    (score,) = parse([ScoreArguments], argv=[*named, "--study_dir", args.study_dir])
    folders = [path.parent.name for path in Path(args.study_dir).glob("*/train.json")]
    answers = str(answers_folder(Path(args.study_dir), args.test))
    return analysis_plan.declare(
        score, replace(args, study_dir=answers), rows, comparability.read_records(Path(args.study_dir), folders)
    )


def answer(
    answerer: "Answerer",
    rows: Sequence[SplitRow],
    questions: Mapping[str | int, Question],
    args: GenerateArguments,
    folder: Path,
    digest: str,
    ways: "Mapping[str, Sampling | None]",
    shard: Shard,
) -> tuple[int, float]:
    """Answer this process's rows, batch by batch into a part file for each of `ways`, by file. Returns new tokens and
    seconds of all.

    `questions`: the rows as they are kept, without the prompt of the arm.
    """
    from tqdm import tqdm

    from medsft.inference import generation

    done = set.intersection(*(set(part_files.finished(folder / name, digest)) for name in ways))
    shard.wait()  # until all have read: what each leaves to the others follows from it
    parts = [part_files.part_file(folder / name, digest, shard) for name in ways]
    for part in parts:
        part.parent.mkdir(exist_ok=True)
        part_files.end_torn_line(part)
    started, tokens = time.monotonic(), 0
    named = f"{args.arm} answers" + (f", each in {len(ways)} ways" if len(ways) > 1 else "")
    named += f", share {shard.share + 1} of {shard.shares}" if shard.shares > 1 else ""
    own = len(rows) // shard.shares
    begun = min(own, len(done)) if shard.shares == 1 else 0
    with tqdm(total=own, initial=begun, desc=named, unit="row", disable=not shard.is_first) as bar:
        for batches in generation.answers(answerer, rows, done, args, [*ways.values()], shard):
            for part, batch in zip(parts, batches, strict=True):
                for row in batch:
                    row.update(questions[row["id"]])
                part_files.append(part, batch)
                tokens += sum(row["new_tokens"] for row in batch)
            fresh = sum(row["id"] not in done for row in batches[0])
            bar.update(min(fresh * shard.count, own - bar.n))  # the others are about as far
    return int(shard.total([tokens])[0]), time.monotonic() - started


def trained_rows(arm: Path) -> int | None:
    """How many of the first training rows an arm saw; None for an untrained arm, which is asked for all."""
    record = arm / "train.json"
    return read_json(record).get("comparable", {}).get("train_rows") if record.is_file() else None


if __name__ == "__main__":
    run(main, __doc__, GenerateArguments)
