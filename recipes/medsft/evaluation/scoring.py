"""From answers to scores: every metric of every row of every system, floors and ceiling among the systems."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medsft.arguments import ScoreArguments
from medsft.errors import UserError
from medsft.evaluation import likelihood, naive_baselines
from medsft.evaluation.metrics import behaviour, bertscore, modules, safety
from medsft.evaluation.statistics import paired_tests, proportions, training_seeds
from medsft.files import fingerprint, read_json, read_jsonl, sha256_file, write_json, write_jsonl
from medsft.inference.generations_file import Rows
from medsft.versions import code_fingerprint

ROOMS = ("evaluation", "../metrics", "data/rules")  # scores are computed anew when their code changes
PER_EXAMPLE = "scores_per_example.jsonl"
RANDOM_PAIRS = "random pairs"
MEASURED = ("generations.jsonl", "likelihood.jsonl", "memorization.jsonl")
RATES = {*behaviour.RATES, *safety.RATES, "recited"}
Columns = dict[str, list[Any]]
Settings = dict[str, Any]


def check_options(arguments: ScoreArguments) -> None:
    """Raise UserError for options that cannot be meant."""
    if not 0 < arguments.confidence < 1:
        raise UserError(f"confidence {arguments.confidence}: give a share between 0 and 1, such as 0.95")
    if not 0 <= arguments.safety_margin < 1:
        raise UserError(f"safety_margin {arguments.safety_margin}: give a share from 0 to below 1, such as 0.05")
    for name, least in (("resamples", 1), ("bert_batch_size", 1), ("seed", 0)):
        if getattr(arguments, name) < least:
            raise UserError(f"{name} {getattr(arguments, name)}: give a whole number from {least}")


def fingerprints(
    study: Path, arms: dict[str, Rows], test_rows: Rows, arguments: ScoreArguments
) -> tuple[dict[str, str], str]:
    """Those of the arms and that of the floors; they stay the same when another arm on the same rows is added."""
    options = {name: value for name, value in asdict(arguments).items() if name != "study_dir"}
    given = [[row["id"], row["group"], row["prompt"], row["reference"]] for row in test_rows]
    common = fingerprint(code_fingerprint(*ROOMS), options, modules.versions(), given)
    train = sha256_file(naive_baselines.training_file(study))
    arm_prints = {}
    for arm in arms:
        files = [*(study / arm / name for name in MEASURED), *sampled_files(study / arm).values()]
        arm_prints[arm] = fingerprint(common, train, {f.name: sha256_file(f) for f in files if f.is_file()})
    return arm_prints, fingerprint(common, train)


def is_scored(folder: Path, arm_print: str) -> bool:
    scores = folder / "scores.json"
    return scores.is_file() and (folder / PER_EXAMPLE).is_file() and read_json(scores).get("fingerprint") == arm_print


def floor_systems(pairs: naive_baselines.Pairs, test_rows: Rows, seed: int) -> dict[str, Rows]:
    """The test rows as each floor answers them, the ceiling, and random pairs, whose BERTScore is the zero of the
    rescaled one. Such a text is whole, so it counts as an ended turn.
    """
    prompts, references = [row["prompt"] for row in test_rows], [row["reference"] for row in test_rows]
    predictions = naive_baselines.floor_predictions(prompts, references, pairs, seed)
    others = naive_baselines.derangement(len(test_rows), seed)
    predictions[RANDOM_PAIRS] = [references[other] for other in others]
    systems = {
        name: [{**row, "prediction": text, "stopped": True} for row, text in zip(test_rows, texts, strict=True)]
        for name, texts in predictions.items()
    }
    return systems | {"doctors": naive_baselines.doctors_against_each_other(test_rows)}


def score_systems(
    systems: dict[str, Rows], encoder: bertscore.Encoder, train_answers: Sequence[str], batch_size: int
) -> dict[str, Columns]:
    """Every metric of every row of each system, all of them in one pass, where what they share is read once."""
    rows = [row for system in systems.values() for row in system]
    asked: Columns = {name: [row[name] for row in rows] for name in ("prompt", "reference", "prediction", "stopped")}
    texts = asked["prediction"], asked["reference"]
    columns = modules.score("rouge", *texts)
    columns |= modules.score("bertscore", *texts, encoder=encoder, batch_size=batch_size, corrected=True)
    for name in ("rouge_corrected", "bleu", "chrf", "meteor"):
        columns |= modules.score(name, *texts)
    columns |= modules.score("behaviour", *texts, prompts=asked["prompt"], stopped=asked["stopped"])
    columns |= modules.score("safety", *texts, prompts=asked["prompt"])
    columns |= modules.score("copying", *texts, train=train_answers)
    parts, start = {}, 0
    for name, system in systems.items():
        parts[name] = {metric: column[start : start + len(system)] for metric, column in columns.items()}
        start += len(system)
    return parts


def check_primary(names: Sequence[str], encoder: bertscore.Encoder, rows: Rows) -> None:
    """Raise UserError where a declared metric is none that is scored, found out on one row before all are scored."""
    one = [{**row, "prediction": row["reference"], "stopped": True} for row in rows]
    scored = [*score_systems({"": one}, encoder, [], 1)[""], "bertscore_f1_rescaled", *likelihood.COLUMNS]
    for name in names:
        if name not in scored:
            raise UserError(f"primary: '{name}' is not scored; choose among {', '.join(scored)}")


def make_settings(encoder: bertscore.Encoder, unrelated: list[float], arguments: ScoreArguments) -> Settings:
    """How the scores are made; `unrelated` are the scores of random pairs, whose mean is 0 on the rescaled scale."""
    baseline = sum(unrelated) / len(unrelated)
    if baseline > 0.999:
        where = f"{arguments.study_dir}/*/generations.jsonl: field 'reference'"
        raise UserError(f"{where}: scoring needs at least two different ones; answer more test rows")
    kept = ("bert_batch_size", "resamples", "confidence", "seed", "primary", "safety_margin")
    return {
        "encoder": arguments.bert_model,
        "layer": encoder.layer,
        "hash": encoder.hash,
        "bert_baseline": baseline,
        "stemmer": True,
        **{name: getattr(arguments, name) for name in kept},
        "versions": modules.versions(),
    }


def finish(rows: Rows, columns: Columns, settings: Settings, folder: Path | None = None) -> Columns:
    """The columns with BERTScore rescaled and, of an arm, the likelihood of the doctors' answers (None if unknown)."""
    columns["bertscore_f1_rescaled"] = bertscore.rescale(columns["bertscore_f1"], settings["bert_baseline"])
    for name, values in likelihood.columns(_measured(folder, "likelihood.jsonl")).items():
        columns[name] = [values.get(row["id"]) for row in rows]
    return columns


def summarise(groups: Sequence[Any], columns: Columns, settings: Settings) -> dict[str, Any]:
    """n, groups and metrics; a share that is 0 or 1 throughout gets Wilson's interval, for a bootstrap has no width."""
    summary = paired_tests.summarise(columns, groups, *resampling(settings))
    for name in RATES & set(summary["metrics"]):
        value = summary["metrics"][name]
        if value["mean"] in (0.0, 1.0):
            n = min(value.get("n", len(groups)), summary["groups"])
            value["low"], value["high"] = proportions.wilson(value["mean"] * n, n, settings["confidence"])
    return summary


def write_arm(folder: Path, rows: Rows, columns: Columns, settings: Settings, arm_print: str) -> None:
    """Write one arm's scores_per_example.jsonl, then its scores.json."""
    groups = [row["group"] for row in rows]
    write_jsonl(
        folder / PER_EXAMPLE,
        (
            {"id": row["id"], "group": row["group"], **{name: column[at] for name, column in columns.items()}}
            for at, row in enumerate(rows)
        ),
    )
    scores = {"arm": folder.name, **summarise(groups, columns, settings), "per_example": PER_EXAMPLE}
    if likely := _measured(folder, "likelihood.jsonl"):
        scores["metrics"]["perplexity"] = likelihood.perplexity_interval(likely, *resampling(settings))
    if recited := _measured(folder, "memorization.jsonl"):
        kept = {name: [row[name] for row in recited] for name in ("recited", "matched", "agreement")}
        scores["memorization"] = summarise([row["group"] for row in recited], kept, settings)
    if files := sampled_files(folder):
        scores["sampled"] = score_samples(files, settings)
    write_json(folder / "scores.json", scores | {"settings": settings, "fingerprint": arm_print})


def score_samples(files: dict[int, Path], settings: Settings) -> dict[str, Any]:
    """ROUGE, behaviour and safety of sampled answers: mean, interval over seeds and dialogues, spread of the seeds."""
    by_seed: dict[str, Columns] = {}
    for seed, path in files.items():
        rows = read_jsonl(path)
        texts = [row["prediction"] for row in rows], [row["reference"] for row in rows]
        asked = {"prompts": [row["prompt"] for row in rows]}
        columns = modules.score("rouge", *texts) | modules.score("safety", *texts, **asked)
        columns |= modules.score("behaviour", *texts, **asked, stopped=[row["stopped"] for row in rows])
        by_seed[str(seed)] = columns
    groups = [row["group"] for row in rows]
    found = {
        name: over
        for name in next(iter(by_seed.values()))
        if (
            over := training_seeds.over_seeds(
                {s: columns[name] for s, columns in by_seed.items()}, groups, *resampling(settings)
            )
        )
    }
    return {"seeds": [*files], "n": len(rows), "metrics": found}


def sampled_files(folder: Path) -> dict[int, Path]:
    """The finished files of sampled answers by seed."""
    files = [path for path in folder.glob("sampled/seed_*.jsonl") if ".partial" not in path.name]
    return dict(sorted((int(path.stem.removeprefix("seed_")), path) for path in files))


def resampling(settings: Settings) -> tuple[int, float, int]:
    return settings["resamples"], settings["confidence"], settings["seed"]


def _measured(folder: Path | None, name: str) -> Rows:
    return read_jsonl(folder / name) if folder is not None and (folder / name).is_file() else []
