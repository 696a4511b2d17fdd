"""Score every arm's held-out answers, floors beside them: metrics with intervals, paired tests against the baseline.

    python recipes/score.py --study_dir runs/demo
    python recipes/score.py --study_dir runs/demo --bert_model FacebookAI/roberta-large

Reads <study_dir>/<arm>/generations.jsonl (and likelihood.jsonl, memorization.jsonl, sampled/ where they are) and
data/train.parquet. Writes each <arm>/scores.json and <arm>/scores_per_example.jsonl, and comparison.json: the floors,
the ceiling, and each arm minus the arm called 'baseline' on the rows that both answered. Before any arm has answered,
floors and ceiling of the test split are what there is. The metrics are `evaluate` modules in recipes/metrics.
"""

from pathlib import Path
from typing import Any

from medsft.arguments import ScoreArguments
from medsft.cli import run
from medsft.config import parse
from medsft.evaluation import naive_baselines
from medsft.files import fingerprint, read_json, write_json
from medsft.inference import generations_file
from medsft.inference.generations_file import BASELINE

SHOWN = ("end_of_turn", "length_ratio", "identity", "copy_8", "red_flag_recall", "over_escalation", "bits_per_byte")


def main() -> None:
    (arguments,) = parse([ScoreArguments])

    from medsft.evaluation import comparability, comparisons, scoring

    scoring.check_options(arguments)
    study = Path(arguments.study_dir)
    output = study / "comparison.json"
    arms, test_rows = read_rows(study)
    unequal = comparability.check(comparability.read_records(study, arms), arguments.allow_unequal)
    arm_prints, floor_print = scoring.fingerprints(study, arms, test_rows, arguments)
    whole_print = fingerprint(floor_print, arm_prints, unequal)
    todo = [arm for arm in arms if not scoring.is_scored(study / arm, arm_prints[arm])]
    done = read_json(output) if output.is_file() else {}
    if not todo and done.get("fingerprint") == whole_print:
        print(f"already done: {output}")
        return

    keep_floors = done.get("floors_fingerprint") == floor_print
    kept = {name: done.get(name, {}) for name in ("settings", "floors", "ceiling")}
    if todo or not keep_floors:
        kept |= score_new(study, {arm: arms[arm] for arm in todo}, arm_prints, test_rows, not keep_floors, arguments)
    comparison = {
        **kept,
        **comparisons.compare(study, [*arms], test_rows, kept["settings"]),
        "unequal": unequal,
        "floors_fingerprint": floor_print,
        "fingerprint": whole_print,
    }
    write_json(output, comparison)
    print_tables({arm: read_json(study / arm / "scores.json") for arm in arms}, comparison)
    print(f"wrote {output}")


def score_new(
    study: Path,
    arms: dict[str, generations_file.Rows],
    arm_prints: dict[str, str],
    test_rows: generations_file.Rows,
    with_floors: bool,
    arguments: ScoreArguments,
) -> dict[str, Any]:
    """Score these arms and write their files. Returns `settings`, and `floors` and `ceiling` where they are asked for.

    Everything is scored in one pass, so that texts which several systems share are read once.
    """
    from medsft.evaluation import scoring
    from medsft.evaluation.metrics import bertscore

    pairs = naive_baselines.read_training_pairs(study)
    systems = scoring.floor_systems(pairs, test_rows, arguments.seed)
    if not with_floors:
        systems = {scoring.RANDOM_PAIRS: systems[scoring.RANDOM_PAIRS]}
    systems |= {f"arm {arm}": rows for arm, rows in arms.items()}
    encoder = bertscore.load_encoder(arguments.bert_model, arguments.bert_layer)
    scoring.check_primary(arguments.primary, encoder, test_rows[:1])
    print(f"scoring {sum(map(len, systems.values()))} answers: {', '.join(systems)}")
    columns = scoring.score_systems(systems, encoder, pairs[1], arguments.bert_batch_size)
    unrelated = columns.pop(scoring.RANDOM_PAIRS)["bertscore_f1"]
    settings = scoring.make_settings(encoder, unrelated, arguments)
    for arm, rows in arms.items():
        finished = scoring.finish(rows, columns.pop(f"arm {arm}"), settings, study / arm)
        scoring.write_arm(study / arm, rows, finished, settings, arm_prints[arm])
    summaries = {
        name: scoring.summarise([row["group"] for row in systems[name]], scoring.finish([], some, settings), settings)
        for name, some in columns.items()
        if systems[name]
    }
    ceiling = {name: summaries.pop(name) for name in ("doctors",) if name in summaries}
    return {"settings": settings} | ({"floors": summaries, "ceiling": ceiling} if with_floors else {})


def read_rows(study: Path) -> tuple[dict[str, generations_file.Rows], generations_file.Rows]:
    """The arms' answers and every test row that has one; where no arm has answered, the whole test split."""
    from medsft.data.split_files import load_split

    if not generations_file.has_answers(study) and (study / "data" / "test.parquet").is_file():
        print(f"{study}: no arm has answered yet, so only the floors of the test split are scored")
        return {}, [generations_file.unanswered(row) for row in load_split(str(study), "test")]
    arms = generations_file.read_arms(study)
    return arms, generations_file.all_rows(arms)


def print_tables(arms: dict[str, dict[str, Any]], comparison: dict[str, Any]) -> None:
    """The arms and the floors by metric, the comparisons, then the guardrail."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    settings = comparison["settings"]
    level = f"{settings['confidence']:.0%}"
    table = Table("metric", "arm or floor", "mean", f"{level} interval", "n", title="Scores", box=SIMPLE)
    systems = arms | {f"floor: {name}": floor for name, floor in comparison["floors"].items()}
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


def interval(value: dict[str, float]) -> str:
    return f"{value['low']:.3f} to {value['high']:.3f}"


if __name__ == "__main__":
    run(main, __doc__, ScoreArguments)
