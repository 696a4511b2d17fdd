"""Score every arm's held-out answers and the naive baselines: metrics with intervals, paired tests.

    python recipes/score.py --study_dir runs/demo
    python recipes/score.py --study_dir runs/demo --bert_model FacebookAI/roberta-large

Reads <study_dir>/<arm>/generations.jsonl (and likelihood.jsonl, memorization.jsonl, sampled/ where they are) and
data/train.parquet. Writes each <arm>/scores.json and <arm>/scores_per_example.jsonl, and comparison.json: the naive
baselines (`floors`), the ceiling, and each arm minus the arm called 'baseline' on the rows that both answered. Before
any arm has answered, the naive baselines and the ceiling of the test split are scored alone. The metrics are `evaluate`
modules in recipes/metrics.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from medsft.arguments import ScoreArguments
from medsft.cli import run
from medsft.config import parse
from medsft.evaluation import naive_baselines
from medsft.files import fingerprint, read_json, write_json
from medsft.inference import generations_file
from medsft.inference.generations_file import BASELINE
from medsft.records import Answer, Generation, Json, Question, Scores, Summary

SHOWN = ("end_of_turn", "length_ratio", "identity", "copy_8", "red_flag_recall", "over_escalation", "bits_per_byte")


def main() -> None:
    (arguments,) = parse([ScoreArguments])

    from medsft.evaluation import comparability, comparisons, scoring

    scoring.check_options(arguments)
    study = Path(arguments.study_dir)
    output = study / "comparison.json"
    arms, test_rows = read_rows(study)
    unequal = comparability.check(comparability.read_records(study, arms), arguments.allow_unequal)
    arm_prints, naive_print = scoring.fingerprints(study, arms, test_rows, arguments)
    whole_print = fingerprint(naive_print, arm_prints, unequal)
    todo = [arm for arm in arms if not scoring.is_scored(study / arm, arm_prints[arm])]
    done = read_json(output) if output.is_file() else {}
    if not todo and done.get("fingerprint") == whole_print:
        print(f"already done: {output}")
        return

    keep_naive = done.get("floors_fingerprint") == naive_print
    kept = {name: done.get(name, {}) for name in ("settings", "floors", "ceiling")}
    if todo or not keep_naive:
        kept |= score_new(study, {arm: arms[arm] for arm in todo}, arm_prints, test_rows, not keep_naive, arguments)
    comparison = {
        **kept,
        **comparisons.compare(study, [*arms], test_rows, kept["settings"]),
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
    with_naive: bool,
    arguments: ScoreArguments,
) -> Json:
    """Score these arms and write their files. Returns `settings`, and `floors` and `ceiling` if `with_naive`."""
    from medsft.evaluation import scoring
    from medsft.evaluation.metrics import bertscore

    pairs = naive_baselines.read_training_pairs(study)
    naive = scoring.systems_without_model(pairs, test_rows, arguments.seed)
    systems: dict[str, Sequence[Answer]] = {n: naive[n] for n in (naive if with_naive else [scoring.RANDOM_PAIRS])}
    systems |= {f"arm {arm}": rows for arm, rows in arms.items()}
    encoder = bertscore.load_encoder(arguments.bert_model, arguments.bert_layer)
    scoring.check_primary(arguments.primary, encoder, test_rows[:1])
    print(f"scoring {sum(map(len, systems.values()))} answers: {', '.join(systems)}")
    columns = scoring.score_systems(systems, encoder, pairs[1], arguments.bert_batch_size)
    unrelated = columns.pop(scoring.RANDOM_PAIRS)["bertscore_f1"]
    settings = scoring.make_settings(encoder, unrelated, arguments)
    for arm, rows in arms.items():
        completed = scoring.complete_columns(columns.pop(f"arm {arm}"), settings, rows, study / arm)
        scoring.write_arm(study / arm, rows, completed, settings, arm_prints[arm])
    summaries = {}
    for name, some in columns.items():
        if groups := [row["group"] for row in systems[name]]:
            summaries[name] = scoring.summarise(groups, scoring.complete_columns(some, settings), settings)
    ceiling = {name: summaries.pop(name) for name in ("doctors",) if name in summaries}
    return {"settings": settings} | ({"floors": summaries, "ceiling": ceiling} if with_naive else {})


def read_rows(study: Path) -> tuple[dict[str, list[Generation]], list[Question]]:
    """The arms' answers and every test row that has one. Before any arm has answered, the whole test split."""
    from medsft.data.split_files import load_split

    if not generations_file.has_answers(study) and (study / "data" / "test.parquet").is_file():
        print(f"{study}: no arm has answered yet, so only the naive baselines of the test split are scored")
        return {}, [generations_file.question(row) for row in load_split(str(study), "test")]
    arms = generations_file.read_arms(study)
    return arms, generations_file.all_rows(arms)


def print_tables(arms: Mapping[str, Scores], comparison: Json) -> None:
    """Print all systems by metric, the comparisons, then the guardrail."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    settings = comparison["settings"]
    level = f"{settings['confidence']:.0%}"
    table = Table("metric", "arm or naive baseline", "mean", f"{level} interval", "n", title="Scores", box=SIMPLE)
    systems: dict[str, Summary] = {**arms}
    systems |= {f"naive: {name}": scores for name, scores in comparison["floors"].items()}
    systems |= {f"ceiling: {name}": scores for name, scores in comparison["ceiling"].items()}
    for metric in (*settings["primary"], *SHOWN):
        for name, system in systems.items():
            if value := system["metrics"].get(metric):
                n = value.get("n", system["n"])
                table.add_row(metric, name, f"{value['mean']:.3f}", interval(value), str(n))
        table.add_section()
    console = Console()
    console.print(table)
    if not comparison["comparisons"]:
        print(f"no comparison: it takes the arm '{BASELINE}' and another one")
        return
    heads = ("metric", "arm", "change", f"{level} interval", "p", "p Holm", "effect", "groups for 80 % power", "n")
    table = Table(*heads, title=f"Against {BASELINE}", box=SIMPLE)
    for row in comparison["comparisons"]:
        p, p_holm, difference = f"{row['p']:.4f}", f"{row['p_holm']:.4f}", f"{row['difference']:+.3f}"
        effect = "" if row["effect_size"] is None else f"{row['effect_size']:+.2f}"
        power = "" if row["needed_groups"] is None else f"{row['needed_groups']:,}"
        table.add_row(row["metric"], row["arm"], difference, interval(row), p, p_holm, effect, power, str(row["n"]))
    console.print(table)
    for row in comparison["guardrails"]:
        shares = (
            f"{row['arm_share']:.2f} against {row['baseline_share']:.2f}, difference {interval(row)}, n = {row['n']}"
        )
        print(f"guardrail red-flag recall, {row['arm']}: {row['verdict']} (margin {row['margin']:g}; {shares})")


def interval(value: Mapping[str, object]) -> str:
    return f"{value['low']:.3f} to {value['high']:.3f}"


if __name__ == "__main__":
    run(main, __doc__, ScoreArguments)
