"""Score every arm's held-out answers and the naive baselines: metrics with intervals, paired tests.

    python recipes/score.py --study_dir runs/demo
    python recipes/score.py --study_dir runs/demo --bert_model FacebookAI/roberta-large

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
from medsft.evaluation import naive_baselines
from medsft.files import fingerprint, read_json, write_json
from medsft.inference import generations_file
from medsft.inference.generations_file import BASELINE
from medsft.records import Answer, Difference, Generation, Json, Question, Scores, Summary
from medsft.result_records import FloorTerms

SHOWN = ("end_of_turn", "length_ratio", "identity", "copy_8", "red_flag_recall", "over_escalation", "bits_per_byte")


def main() -> None:
    (arguments,) = parse([ScoreArguments])

    from medsft.evaluation import analysis_plan, comparability, comparisons, scoring

    scoring.check_options(arguments)
    study = Path(arguments.study_dir)
    output = study / "comparison.json"
    arms, test_rows = read_rows(study)
    trained = comparability.read_records(study, arms)
    unequal = comparability.check(trained, arguments.allow_unequal)
    terms = naive_baselines.terms(study, [*arms], trained)
    arm_prints, naive_print = scoring.fingerprints(study, arms, test_rows, terms, arguments)
    answered = analysis_plan.answers_now(study, [*arms])
    now = analysis_plan.plan(arguments, answered, [row["id"] for row in test_rows], trained)
    kept_plan = analysis_plan.compare(study, now, [*arms])
    whole_print = fingerprint(naive_print, arm_prints, unequal, kept_plan)
    todo = [arm for arm in arms if not scoring.is_scored(study / arm, arm_prints[arm])]
    done = read_json(output) if output.is_file() else {}
    if not todo and done.get("fingerprint") == whole_print:
        print(f"already done: {output}")
        return

    keep_naive = done.get("floors_fingerprint") == naive_print and (study / scoring.FLOORS_PER_EXAMPLE).is_file()
    kept = {name: done.get(name, {}) for name in ("settings", "floors", "ceiling", "retrieval", "controls")}
    if todo or not keep_naive:
        some = {arm: arms[arm] for arm in todo}
        kept |= score_new(study, some, arm_prints, test_rows, terms, not keep_naive, arguments)
    comparison = {
        **kept,
        **comparisons.compare(study, [*arms], test_rows, kept["settings"]),
        "floor_terms": terms,
        "plan": kept_plan,
        "unequal": unequal,
        "floors_fingerprint": naive_print,
        "fingerprint": whole_print,
    }
    write_json(output, comparison)
    print_tables({arm: read_json(study / arm / "scores.json") for arm in arms}, comparison)
    print(f"wrote {output}")


def score_new(
    study: Path,
    arms: Mapping[str, Sequence[Generation]],
    arm_prints: Mapping[str, str],
    test_rows: Sequence[Question],
    terms: FloorTerms,
    with_floors: bool,
    arguments: ScoreArguments,
) -> Json:
    """Score these arms and write their files, and `with_floors` those of the systems without a model.

    Returns `settings` and, for those, `floors`, `ceiling`, `retrieval` and `controls`.
    """
    from medsft.evaluation import scoring
    from medsft.evaluation.metrics import bertscore

    without = scoring.systems_without_model(study, test_rows, terms, arguments.seed)
    encoder = bertscore.load_encoder(arguments.bert_model, arguments.bert_layer)
    scoring.check_primary(arguments.primary, encoder, test_rows[:1])
    systems: dict[str, Sequence[Answer]] = {n: without[n] for n in (without if with_floors else [scoring.RANDOM_PAIRS])}
    systems |= {f"arm {arm}": rows for arm, rows in arms.items()}
    print(f"scoring {sum(map(len, systems.values()))} answers: {', '.join(systems)}")
    seen = naive_baselines.read_training_pairs(study, terms["train_rows"]).answers
    columns = scoring.score_systems(systems, encoder, seen, arguments.bert_batch_size)
    unrelated, references = columns[scoring.RANDOM_PAIRS]["bertscore_f1"], [row["reference"] for row in test_rows]
    settings = scoring.make_settings(encoder, unrelated, references, arguments)
    for warning in scoring.language_warnings(references):
        print(f"warning: {warning}", file=sys.stderr)
    for arm, rows in arms.items():
        completed = scoring.complete_columns(columns.pop(f"arm {arm}"), settings, rows, study / arm)
        scoring.write_arm(study / arm, rows, completed, settings, arm_prints[arm])
    found: Json = {"settings": settings}
    return found | (scoring.write_floors(study, systems, columns, settings) if with_floors else {})


def read_rows(study: Path) -> tuple[dict[str, list[Generation]], list[Question]]:
    """The arms' answers and every test row that has one. Before any arm has answered, the whole test split."""
    from medsft.data.split_files import load_split

    if not generations_file.has_answers(study) and (study / "data" / "test.parquet").is_file():
        print(f"{study}: no arm has answered yet, so only the naive baselines of the test split are scored")
        return {}, [generations_file.question(row) for row in load_split(str(study), "test")]
    arms = generations_file.read_arms(study)
    return arms, generations_file.all_rows(arms)


def print_tables(arms: Mapping[str, Scores], comparison: Json) -> None:
    """Print all systems by metric, with the share of answers cut at the budget, the comparisons, then the guardrail."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    settings = comparison["settings"]
    level = f"{settings['confidence']:.0%}"
    table = Table("metric", title="Scores (cut: answers that ended at the limit)", box=SIMPLE)
    table.add_column("arm or naive baseline", no_wrap=True)
    for head in ("mean", f"{level} interval", "n", "cut"):
        table.add_column(head)
    systems: dict[str, Summary] = {**arms}
    systems |= {f"naive: {name}": scores for name, scores in comparison["floors"].items()}
    systems |= {f"retrieval: {name}": scores for name, scores in comparison["retrieval"].items()}
    systems |= {f"ceiling: {name}": scores for name, scores in comparison["ceiling"].items()}
    for metric in (*settings["primary"], *SHOWN):
        for name, system in systems.items():
            if value := system["metrics"].get(metric):
                n = value.get("n", system["n"])
                table.add_row(metric, name, f"{value['mean']:.3f}", interval(value), str(n), cut_share(system))
        table.add_section()
    console = Console()
    console.print(table)
    if not comparison["comparisons"]:
        print(f"no comparison: it takes the arm '{BASELINE}' and another one")
        return
    for title in ("comparisons", "pairs", "floor_comparisons"):
        print_differences(title, comparison[title], level)
    for row in comparison["guardrails"]:
        shares = (
            f"{row['arm_share']:.2f} against {row['baseline_share']:.2f}, difference {interval(row)}, n = {row['n']}"
        )
        print(f"guardrail red-flag recall, {row['arm']}: {row['verdict']} (margin {row['margin']:g}; {shares})")
        if over := row["over_escalation"]:
            print(f"  urgent advice to the other {over['n']} messages: {over['difference']:+.2f}, {interval(over)}")


def print_differences(name: str, rows: Sequence[Difference], level: str) -> None:
    """Print one list of tested differences; nothing where it is empty."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    titles = {"comparisons": f"Against {BASELINE}", "pairs": "Arm against arm"}
    heads = ("metric", "difference of", "change", f"{level} interval", "p", "p Holm", "effect", "groups for 80 % power")
    table = Table(*heads, "n", title=titles.get(name, "Against the naive baselines"), box=SIMPLE)
    for row in rows:
        effect = "" if row["effect_size"] is None else f"{row['effect_size']:+.2f}"
        power = "" if row["needed_groups"] is None else f"{row['needed_groups']:,}"
        tested = (f"{row['difference']:+.3f}", interval(row), f"{row['p']:.4f}", f"{row['p_holm']:.4f}")
        table.add_row(row["metric"], f"{row['arm']} - {row['baseline']}", *tested, effect, power, str(row["n"]))
    if rows:
        Console().print(table)


def cut_share(system: Summary) -> str:
    ended = system["metrics"].get("end_of_turn")
    return f"{1 - ended['mean']:.0%}" if ended else ""


def interval(value: Mapping[str, object]) -> str:
    return "none" if value["low"] is None else f"{value['low']:.3f} to {value['high']:.3f}"


if __name__ == "__main__":
    run(main, __doc__, ScoreArguments)
