"""Score every arm's held-out answers and the naive baselines: metrics with intervals, paired tests.

    python recipes/score.py --study_dir runs/demo
    python recipes/score.py --study_dir runs/demo --bert_model FacebookAI/roberta-large
    python recipes/score.py --study_dir runs/mine --test kqa --statements kqa_statements.jsonl

Reads <study_dir>/<arm>/generations.jsonl (and likelihood.jsonl, memorization.jsonl, sampled/ where they are) and
data/train.parquet. Writes each <arm>/scores.json and <arm>/scores_per_example.jsonl, and comparison.json: the naive
baselines (`floors`) on the arms' terms, the ceiling, and each arm minus the arm called 'baseline', the other arms and
the naive baselines, on the rows that both answered. Before any arm has answered, the naive baselines and the ceiling of
the test split are scored alone. The metrics are `evaluate` modules in recipes/metrics.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from medsft.arguments import ScoreArguments
from medsft.cli import run
from medsft.config import parse
from medsft.files import fingerprint, read_json, write_json
from medsft.inference import generations_file, part_files
from medsft.records import Answer, Generation, Json, Question
from medsft.result_records import FloorTerms
from medsft.study import lineage
from medsft.study.names import answers_folder, existing_study


def main() -> None:
    (arguments,) = parse([ScoreArguments])

    from medsft.evaluation import analysis_plan, comparability, comparisons, naive_baselines, scoring
    from medsft.reporting import score_table

    scoring.check_options(arguments)
    study = existing_study(arguments.study_dir)
    answers = answers_folder(study, arguments.test)
    output = answers / "comparison.json"
    put_together(answers, arguments)
    lineage.check_arms(study, [path.parent.name for path in answers.glob("*/generations.jsonl")], arguments.test)
    arms, test_rows = read_rows(answers, arguments)
    trained = comparability.read_records(study, arms)
    unequal = comparability.check(trained, arguments.allow_unequal)
    terms = naive_baselines.terms(answers, [*arms], trained)
    arm_prints, naive_print = scoring.fingerprints(answers, arms, test_rows, terms, arguments)
    answered = analysis_plan.answers_now(answers, [*arms])
    now = analysis_plan.plan(arguments, answered, [row["id"] for row in test_rows], trained)
    kept_plan = analysis_plan.compare(answers, now, [*arms])
    whole_print = fingerprint(naive_print, arm_prints, unequal, kept_plan)
    todo = [arm for arm in arms if not scoring.is_scored(answers / arm, arm_prints[arm])]
    done = read_json(output) if output.is_file() else {}
    if not todo and done.get("fingerprint") == whole_print:
        print(f"already done: {output}")
        return

    keep_naive = done.get("floors_fingerprint") == naive_print and (answers / scoring.FLOORS_PER_EXAMPLE).is_file()
    kept = {name: done.get(name, {}) for name in ("settings", "floors", "ceiling", "retrieval", "controls")}
    if todo or not keep_naive:
        some = {arm: arms[arm] for arm in todo}
        kept |= score_new(answers, some, arm_prints, test_rows, terms, not keep_naive, arguments)
    comparison = {
        **kept,
        **comparisons.compare(answers, [*arms], test_rows, kept["settings"]),
        "scores": {arm: read_json(answers / arm / "scores.json")["fingerprint"] for arm in arms},
        "floor_terms": terms,
        "plan": kept_plan,
        "unequal": unequal,
        "floors_fingerprint": naive_print,
        "fingerprint": whole_print,
    }
    write_json(output, comparison)
    for sentence in comparability.engines(answers, [*arms]):
        print(f"note: {sentence}")
    score_table.show({arm: read_json(answers / arm / "scores.json") for arm in arms}, comparison)
    print(f"wrote {output}")
    print("the other metrics, each naive baseline and all intervals are in it, and in the report")


def put_together(answers: Path, arguments: ScoreArguments) -> None:
    """Write the files of arms whose shares have all ended; say which arms wait for a share."""
    from medsft.data.split_files import load_split, split_of_test

    waiting = part_files.unmerged(answers)
    order = load_split(arguments.study_dir, split_of_test(arguments.test))["id"] if waiting else []
    for folder, digest in waiting:
        if missing := part_files.merge(folder, digest, order):
            print(
                f"warning: {folder}: {missing} rows are not answered yet, so this run is not scored; submit its job "
                "again, or run generate.py once without --shard",
                file=sys.stderr,
            )
        else:
            print(f"{folder}: the shares' answers are put together")


def score_new(
    answers: Path,
    arms: Mapping[str, Sequence[Generation]],
    arm_prints: Mapping[str, str],
    test_rows: Sequence[Question],
    terms: FloorTerms,
    with_floors: bool,
    arguments: ScoreArguments,
) -> Json:
    """Score these arms, write their files into `answers`, and `with_floors` those of the systems without a model.

    Returns `settings` and, for those, `floors`, `ceiling`, `retrieval` and `controls`.
    """
    from medsft.evaluation import decodings, naive_baselines, scoring
    from medsft.evaluation.completeness import scores as completeness
    from medsft.evaluation.metrics import bertscore

    study = Path(arguments.study_dir)
    without = scoring.systems_without_model(study, test_rows, terms, arguments.seed)
    encoder = bertscore.load_encoder(arguments.bert_model, arguments.bert_layer)
    pairs = [(row["prediction"], row["reference"]) for row in without[scoring.RANDOM_PAIRS]]
    encoder = bertscore.in_precision(encoder, arguments.bert_dtype, *map(list, zip(*pairs, strict=True)))
    reader = completeness.instrument(arguments, study, test_rows)
    own = reader.columns if reader else []
    scoring.check_primary([name for name in arguments.primary if name not in own], encoder, test_rows[:1])
    systems: dict[str, Sequence[Answer]] = {n: without[n] for n in (without if with_floors else [scoring.RANDOM_PAIRS])}
    draws = {arm: decodings.read_draws(answers / arm, rows) for arm, rows in arms.items()}
    decodings.check(arguments.decoding, draws, study, arguments.test)
    named = {
        (arm, way, at): f"arm {arm} {way} {at}"
        for arm, ways in draws.items()
        for way, some in ways.items()
        for at in range(len(some))
    }
    systems |= {name: draws[arm][way][at] for (arm, way, at), name in named.items()}
    print(f"scoring {sum(map(len, systems.values()))} answers of {len(systems)} systems, {len(arms)} of them arms")
    seen = naive_baselines.read_training_pairs(study, terms["train_rows"]).answers
    columns = scoring.score_systems(systems, encoder, seen, arguments.bert_batch_size)
    unrelated, references = columns[scoring.RANDOM_PAIRS]["bertscore_f1"], [row["reference"] for row in test_rows]
    settings = scoring.make_settings(encoder, unrelated, references, arguments)
    if reader is None:
        for arm in arms:
            (answers / arm / completeness.OMISSIONS).unlink(missing_ok=True)  # of the answers before
    else:
        settings["completeness"] = reader.record
        listed = {named[arm, arguments.decoding, 0]: answers / arm for arm in arms}
        folders = {name: answers / arm for (arm, *_), name in named.items()}
        for name, some in columns.items():
            some |= completeness.score(reader, systems[name], folders.get(name), name.replace(" ", "_"))
            if name in listed:
                completeness.list_omissions(reader, systems[name], listed[name], name.replace(" ", "_"))
    for warning in scoring.language_warnings(references):
        print(f"warning: {warning}", file=sys.stderr)
    for arm, ways in draws.items():
        scored = {way: [columns.pop(named[arm, way, at]) for at in range(len(some))] for way, some in ways.items()}
        scoring.write_arm(answers / arm, ways, scored, settings, arm_prints[arm])
    found: Json = {"settings": settings}
    return found | (scoring.write_floors(answers, systems, columns, settings) if with_floors else {})


def read_rows(answers: Path, arguments: ScoreArguments) -> tuple[dict[str, list[Generation]], list[Question]]:
    """The arms' answers and every test row that has one. Before any arm has answered, the whole test split.

    Of more than `max_rows` rows the first of the split, which is shuffled.
    """
    from medsft.data.split_files import load_split, split_of_test

    most, split = arguments.max_rows, split_of_test(arguments.test)
    if not generations_file.has_answers(answers) and (answers / "data" / "test.parquet").is_file():
        print(f"{answers}: no arm has answered yet, so only the naive baselines of the test split are scored")
        return {}, [generations_file.question(row) for row in load_split(arguments.study_dir, split)][:most]
    arms = generations_file.read_arms(answers)
    rows = generations_file.all_rows(arms)
    if most is None or len(rows) <= most:
        return arms, rows
    answered = {row["id"] for row in rows}
    kept = set([row["id"] for row in load_split(arguments.study_dir, split) if row["id"] in answered][:most])
    some = {arm: [row for row in those if row["id"] in kept] for arm, those in arms.items()}
    return some, [row for row in rows if row["id"] in kept]


if __name__ == "__main__":
    run(main, __doc__, ScoreArguments)
