"""Score every arm's held-out answers, floors beside them: metrics with intervals, paired tests against the baseline.

    python recipes/score.py --study_dir runs/demo
    python recipes/score.py --study_dir runs/demo --bert_model FacebookAI/roberta-large --bert_layer 17

Reads <study_dir>/<arm>/generations.jsonl and data/train.parquet. Writes each <arm>/scores.json and
<arm>/scores_per_example.jsonl, and comparison.json: the floors, and each arm minus the arm called 'baseline' on the
rows that both answered.
"""

from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from medsft import answers, floors, metrics, significance
from medsft.answers import BASELINE, Rows
from medsft.arguments import ScoreArguments
from medsft.cli import UserError, parse, run
from medsft.files import fingerprint, read_json, read_jsonl, sha256_file, write_json, write_jsonl

SCORE_VERSION = 1  # raise it when the same input would get other numbers
PER_EXAMPLE = "scores_per_example.jsonl"
SHOWN = (*metrics.PRIMARY, "end_of_turn", "length_ratio")
Columns = dict[str, list[float]]
Settings = dict[str, Any]


def main() -> None:
    (arguments,) = parse([ScoreArguments])
    check_options(arguments)
    study = Path(arguments.study_dir)
    output = study / "comparison.json"
    arms = answers.read_arms(study)
    test_rows = answers.all_rows(arms)
    arm_prints, floor_print = fingerprints(study, arms, test_rows, arguments)
    whole_print = fingerprint(floor_print, arm_prints)
    todo = [arm for arm in arms if not is_scored(study / arm, arm_prints[arm])]
    done = read_json(output) if output.is_file() else {}
    if not todo and done.get("fingerprint") == whole_print:
        print(f"already done: {output}")
        return

    keep_floors = done.get("floors_fingerprint") == floor_print
    settings, floor_scores = (done["settings"], done["floors"]) if keep_floors else ({}, {})
    if todo or not keep_floors:
        systems = {arm: arms[arm] for arm in todo}
        floor_rows = {} if keep_floors else answer_as_floors(study, test_rows, arguments)
        encoder = metrics.load_encoder(arguments.bert_model, arguments.bert_layer)
        everything = [*systems.values(), *floor_rows.values(), random_pairs(test_rows, arguments)]
        print(f"scoring {sum(map(len, everything))} answers: {', '.join([*systems, *floor_rows])}")
        *bert, unrelated = bertscores(everything, encoder, arguments)
        settings = make_settings(encoder, unrelated, arguments)
        for (arm, rows), values in zip(systems.items(), bert, strict=False):
            write_arm(study / arm, rows, score_rows(rows, values, settings), settings, arm_prints[arm])
        for (name, rows), values in zip(floor_rows.items(), bert[len(systems) :], strict=True):
            floor_scores[name] = summarise(rows, score_rows(rows, values, settings), settings)
    per_example = {arm: read_jsonl(study / arm / PER_EXAMPLE) for arm in arms}
    comparison = {
        "floors": floor_scores,
        "comparisons": significance.compare_arms(per_example, BASELINE, metrics.PRIMARY, *resampling(settings)),
        "settings": settings,
        "floors_fingerprint": floor_print,
        "fingerprint": whole_print,
    }
    write_json(output, comparison)
    print_tables({arm: read_json(study / arm / "scores.json") for arm in arms}, comparison)
    print(f"wrote {output}")


def check_options(arguments: ScoreArguments) -> None:
    if not 0 < arguments.confidence < 1:
        raise UserError(f"confidence {arguments.confidence}: give a share between 0 and 1, such as 0.95")
    for name, least in (("resamples", 1), ("bert_batch_size", 1), ("seed", 0)):
        if getattr(arguments, name) < least:
            raise UserError(f"{name} {getattr(arguments, name)}: give a whole number from {least}")


def fingerprints(
    study: Path, arms: dict[str, Rows], test_rows: Rows, arguments: ScoreArguments
) -> tuple[dict[str, str], str]:
    """Those of the arms and that of the floors; they stay the same when another arm on the same rows is added."""
    options = {name: value for name, value in asdict(arguments).items() if name != "study_dir"}
    given = [[row["id"], row["group"], row["prompt"], row["reference"]] for row in test_rows]
    common = fingerprint(SCORE_VERSION, options, metrics.versions(), given)
    train = floors.training_file(study)
    arm_prints = {arm: fingerprint(common, sha256_file(study / arm / "generations.jsonl")) for arm in arms}
    return arm_prints, fingerprint(common, sha256_file(train))


def is_scored(folder: Path, arm_print: str) -> bool:
    scores = folder / "scores.json"
    return scores.is_file() and (folder / PER_EXAMPLE).is_file() and read_json(scores).get("fingerprint") == arm_print


def answer_as_floors(study: Path, test_rows: Rows, arguments: ScoreArguments) -> dict[str, Rows]:
    """The test rows as each floor answers them. A floor's text is whole, so it counts as an ended turn."""
    prompts, references = [row["prompt"] for row in test_rows], [row["reference"] for row in test_rows]
    predictions = floors.floor_predictions(prompts, references, floors.training_file(study), arguments.seed)
    return {
        name: [{**row, "prediction": text, "stopped": True} for row, text in zip(test_rows, texts, strict=True)]
        for name, texts in predictions.items()
    }


def random_pairs(test_rows: Rows, arguments: ScoreArguments) -> Rows:
    """Each test row answered with another row's reference: what BERTScore gives to unrelated texts."""
    others = floors.derangement(len(test_rows), arguments.seed)
    return [{**row, "prediction": test_rows[at]["reference"]} for row, at in zip(test_rows, others, strict=True)]


def bertscores(systems: list[Rows], encoder: metrics.Encoder, arguments: ScoreArguments) -> list[list[float]]:
    """BERTScore of every system's rows in one pass, where a reference that several systems share is encoded once."""
    rows = [row for system in systems for row in system]
    predictions, references = [row["prediction"] for row in rows], [row["reference"] for row in rows]
    values = iter(metrics.bertscore(encoder, predictions, references, arguments.bert_batch_size)["bertscore_f1"])
    return [list(islice(values, len(system))) for system in systems]


def make_settings(encoder: metrics.Encoder, unrelated: list[float], arguments: ScoreArguments) -> Settings:
    """How the scores are made; `unrelated` are the scores of random pairs, whose mean is 0 on the rescaled scale."""
    baseline = sum(unrelated) / len(unrelated)
    if baseline > 0.999:
        where = f"{arguments.study_dir}/*/generations.jsonl: field 'reference'"
        raise UserError(f"{where}: scoring needs at least two different ones; answer more test rows")
    return {
        "encoder": arguments.bert_model,
        "layer": encoder.layer,
        "hash": encoder.hash,
        "bert_baseline": baseline,
        "bert_batch_size": arguments.bert_batch_size,
        "stemmer": True,
        "resamples": arguments.resamples,
        "confidence": arguments.confidence,
        "seed": arguments.seed,
        "versions": metrics.versions(),
    }


def score_rows(rows: Rows, bert: list[float], settings: Settings) -> Columns:
    """Every metric of every row: one list of len(rows) numbers per metric."""
    predictions, references = [row["prediction"] for row in rows], [row["reference"] for row in rows]
    columns = metrics.rouge(predictions, references)
    columns["bertscore_f1"] = bert
    columns["bertscore_f1_rescaled"] = metrics.rescale(bert, settings["bert_baseline"])
    columns |= metrics.end_of_turn([row["stopped"] for row in rows])
    return columns | metrics.length_ratio(predictions, references)


def write_arm(folder: Path, rows: Rows, columns: Columns, settings: Settings, arm_print: str) -> None:
    """Write one arm's scores_per_example.jsonl, then its scores.json."""
    per_example = [
        {"id": row["id"], "group": row["group"], **{name: column[at] for name, column in columns.items()}}
        for at, row in enumerate(rows)
    ]
    write_jsonl(folder / PER_EXAMPLE, per_example)
    head, tail = {"arm": folder.name}, {"per_example": PER_EXAMPLE, "settings": settings, "fingerprint": arm_print}
    write_json(folder / "scores.json", head | summarise(rows, columns, settings) | tail)


def summarise(rows: Rows, columns: Columns, settings: Settings) -> dict[str, Any]:
    return significance.summarise(columns, [row["group"] for row in rows], *resampling(settings))


def resampling(settings: Settings) -> tuple[int, float, int]:
    return settings["resamples"], settings["confidence"], settings["seed"]


def print_tables(arms: dict[str, dict[str, Any]], comparison: dict[str, Any]) -> None:
    """The arms and the floors by metric, then the comparisons."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    level = f"{comparison['settings']['confidence']:.0%}"
    table = Table("metric", "arm or floor", "mean", f"{level} interval", "n", title="Scores", box=SIMPLE)
    systems = arms | {f"floor: {name}": floor for name, floor in comparison["floors"].items()}
    for metric in SHOWN:
        for name, system in systems.items():
            value = system["metrics"][metric]
            table.add_row(metric, name, f"{value['mean']:.3f}", interval(value), str(system["n"]))
        table.add_section()
    console = Console()
    console.print(table)
    if not comparison["comparisons"]:
        print(f"no comparison: it takes the arm '{BASELINE}' and another one")
        return
    heads = ("metric", "arm", "change", f"{level} interval", "p", "p Holm", "n")
    table = Table(*heads, title=f"Against {BASELINE}", box=SIMPLE)
    for row in comparison["comparisons"]:
        p, p_holm, difference = f"{row['p']:.4f}", f"{row['p_holm']:.4f}", f"{row['difference']:+.3f}"
        table.add_row(row["metric"], row["arm"], difference, interval(row), p, p_holm, str(row["n"]))
    console.print(table)


def interval(value: dict[str, float]) -> str:
    return f"{value['low']:.3f} to {value['high']:.3f}"


if __name__ == "__main__":
    run(main, __doc__, ScoreArguments)
