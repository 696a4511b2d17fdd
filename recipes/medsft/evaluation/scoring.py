"""Scores of every system: each metric of each row, for the arms, the naive baselines and the ceiling."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import cast

from medsft.arguments import ScoreArguments
from medsft.errors import UserError
from medsft.evaluation import decodings, likelihood, naive_baselines
from medsft.evaluation.completeness.matching import by_content
from medsft.evaluation.decodings import Columns
from medsft.evaluation.metrics import bertscore, corpus, modules, scripts
from medsft.evaluation.safety_instrument import classifier
from medsft.evaluation.statistics.equivalence import read_margins
from medsft.evaluation.statistics.intervals import Resampling, Values
from medsft.evaluation.statistics.intervals import summarise as summarise_columns
from medsft.files import fingerprint, read_json, read_jsonl, sha256_file, write_json, write_jsonl
from medsft.inference.part_files import sampled_files
from medsft.records import (
    Answer,
    Generation,
    Json,
    Question,
    ScoreRow,
    Scores,
    ScoreSettings,
    Summary,
)
from medsft.result_records import FloorTerms
from medsft.versions import code_fingerprint

ROOMS = ("evaluation", "../metrics", "data/rules")  # scores are computed anew when their code changes
PER_EXAMPLE = "scores_per_example.jsonl"
RANDOM_PAIRS = "held-out answers to others"  # other doctors' held-out answers: 0 of the rescaled BERTScore
FLOORS_PER_EXAMPLE = "floors_per_example.jsonl"
MEASURED = ("generations.jsonl", "likelihood.jsonl", "memorization.jsonl")
ENGLISH_ONLY = (
    "METEOR, BLEU, boilerplate, red flags, urgent advice, specialty and reading grade know English only; the stems of "
    "ROUGE and the embedded encoder of BERTScore do too"
)


def check_options(arguments: ScoreArguments) -> None:
    """Raise UserError for an option out of its range."""
    if not 0 < arguments.confidence < 1:
        raise UserError(f"confidence {arguments.confidence}: give a share between 0 and 1, such as 0.95")
    least = math.ceil(2 / (1 - arguments.confidence) - 1e-9)  # fewer have nothing in the tails
    if arguments.resamples < least:
        raise UserError(f"resamples {arguments.resamples}: give a whole number from {least}, better 9999")
    read_margins(arguments.margins)
    if not 0 <= arguments.safety_margin < 1:
        raise UserError(f"safety_margin {arguments.safety_margin}: give a share from 0 to below 1, such as 0.05")
    if arguments.bert_dtype not in ("auto", "bfloat16", "float32"):
        raise UserError(f"bert_dtype '{arguments.bert_dtype}': use auto, bfloat16 or float32")
    if arguments.max_rows is not None and arguments.max_rows < 1:
        raise UserError(f"max_rows {arguments.max_rows}: give a whole number from 1")
    for name, least in (("bert_batch_size", 1), ("seed", 0)):
        if getattr(arguments, name) < least:
            raise UserError(f"{name} {getattr(arguments, name)}: give a whole number from {least}")


def fingerprints(
    study: Path,
    arms: Mapping[str, Sequence[Generation]],
    test_rows: Sequence[Question],
    terms: FloorTerms,
    arguments: ScoreArguments,
) -> tuple[dict[str, str], str]:
    """Those of the arms and that of the naive baselines. Another arm on the same terms does not change them."""
    options = by_content({name: value for name, value in asdict(arguments).items() if name != "study_dir"})
    asked = [[row["id"], row["group"], row["prompt"], row["messages"], row["reference"]] for row in test_rows]
    common = fingerprint(code_fingerprint(*ROOMS), options, modules.versions(), asked, terms["train_rows"])
    train = sha256_file(naive_baselines.training_file(Path(arguments.study_dir)))
    arm_prints = {}
    for arm in arms:
        files = [*(study / arm / name for name in MEASURED), *decodings.files(study / arm)]
        arm_prints[arm] = fingerprint(common, train, {f.name: sha256_file(f) for f in files if f.is_file()})
    return arm_prints, fingerprint(common, train, terms)


def is_scored(folder: Path, arm_print: str) -> bool:
    """Whether an arm has scores of this fingerprint."""
    scores = folder / "scores.json"
    return scores.is_file() and (folder / PER_EXAMPLE).is_file() and read_json(scores).get("fingerprint") == arm_print


def systems_without_model(
    study: Path, test_rows: Sequence[Question], terms: FloorTerms, seed: int
) -> dict[str, list[Answer]]:
    """The test rows as each naive baseline answers them, retrieval, the ceiling (`doctors`), and random pairs.

    The mean BERTScore of random pairs is the zero of the rescaled one. Retrieval and the texts of doctors are whole.
    """
    seen = naive_baselines.read_training_pairs(study, terms["train_rows"])
    naive, retrieved = naive_baselines.answer_all(
        test_rows, seen, naive_baselines.read_training_pairs(study), terms, seed
    )
    others = naive_baselines.derangement(len(test_rows), seed)
    return naive | {
        naive_baselines.RETRIEVAL: retrieved,
        RANDOM_PAIRS: [
            naive_baselines.answered(row, test_rows[other]["reference"])
            for row, other in zip(test_rows, others, strict=True)
        ],
        "doctors": naive_baselines.doctors_against_each_other(test_rows),
    }


def score_systems(
    systems: Mapping[str, Sequence[Answer]], encoder: bertscore.Encoder, train_answers: Sequence[str], batch_size: int
) -> dict[str, Columns]:
    """Every metric of every row of each system. All systems are scored together, so that shared texts are read once."""
    rows = [row for system in systems.values() for row in system]
    predictions, references = [row["prediction"] for row in rows], [row["reference"] for row in rows]
    options = {
        "prompts": [row["messages"] for row in rows],
        "stopped": [row["stopped"] for row in rows],
        "train": train_answers,
        "encoder": encoder,
        "batch_size": batch_size,
        "corrected": True,
    }
    columns = modules.score_all(predictions, references, options)
    parts, start = {}, 0
    for name, system in systems.items():
        parts[name] = {metric: column[start : start + len(system)] for metric, column in columns.items()}
        start += len(system)
    return parts


def check_primary(names: Sequence[str], encoder: bertscore.Encoder, rows: Sequence[Question]) -> None:
    """Raise UserError for a declared metric that is not scored. Scores `rows` to find out which metrics are."""
    one = [naive_baselines.answered(row, row["reference"]) for row in rows]
    scored = [*score_systems({"": one}, encoder, [], 1)[""], "bertscore_f1_rescaled", *likelihood.COLUMNS]
    for name in names:
        if name not in scored:
            raise UserError(f"primary: '{name}' is not scored; choose among {', '.join(scored)}")


def make_settings(
    encoder: bertscore.Encoder, unrelated: Values, references: Sequence[str], arguments: ScoreArguments
) -> ScoreSettings:
    """How the scores are made. `unrelated`: BERTScore F1 of random pairs, whose mean is 0 on the rescaled scale.

    `references` say whether the test rows are in English.
    """
    baseline = sum(cast("Sequence[float]", unrelated)) / len(unrelated)
    if baseline > 0.999:
        where = f"{arguments.study_dir}/*/generations.jsonl: field 'reference'"
        raise UserError(f"{where}: scoring needs at least two different ones; answer more test rows")
    return {
        "encoder": arguments.bert_model,
        "layer": encoder.layer,
        "hash": encoder.hash,
        "precision": encoder.precision,
        "bert_baseline": baseline,
        "stemmer": True,
        "bert_batch_size": arguments.bert_batch_size,
        "resamples": arguments.resamples,
        "confidence": arguments.confidence,
        "seed": arguments.seed,
        "primary": arguments.primary,
        "decoding": arguments.decoding,
        "safety_margin": arguments.safety_margin,
        "margins": read_margins(arguments.margins),
        "english": scripts.is_english(references),
        "safety_instrument": classifier.instrument(),
        "versions": modules.versions(),
    }


def complete_columns(
    columns: Columns, settings: ScoreSettings, rows: Sequence[Question] = (), folder: Path | None = None
) -> Columns:
    """The columns with BERTScore rescaled. For an arm (its rows and folder) also the likelihood of the references."""
    unscaled = cast("list[float]", columns["bertscore_f1"])
    columns["bertscore_f1_rescaled"] = [*bertscore.rescale(unscaled, settings["bert_baseline"])]
    for name, values in likelihood.columns(_measured(folder, "likelihood.jsonl")).items():
        columns[name] = [values.get(row["id"]) for row in rows]
    return columns


def summarise(
    rows: Sequence[Answer], columns: Mapping[str, Values], settings: ScoreSettings, answers: Sequence[Answer] = ()
) -> Summary:
    """Interval of every metric over groups, those of the whole system included: of all `answers`, or of `rows`."""
    found = summarise_columns(columns, [row["group"] for row in rows], *resampling(settings))
    found["metrics"] |= corpus.corpus_metrics(answers or rows, resampling(settings))
    return found


def write_floors(
    study: Path, systems: Mapping[str, Sequence[Answer]], columns: Mapping[str, Columns], settings: ScoreSettings
) -> Json:
    """Write the scores of every row of the systems without a model; return summaries by key of comparison.json."""
    rows: list[Json] = []
    summaries: dict[str, Summary] = {}
    for name, some in columns.items():
        if systems[name]:
            completed = complete_columns(some, settings)
            rows += [{"system": name, **row} for row in per_example(systems[name], completed)]
            summaries[name] = summarise(systems[name], completed, settings)
    write_jsonl(study / FLOORS_PER_EXAMPLE, rows)
    apart = {"ceiling": "doctors", "retrieval": naive_baselines.RETRIEVAL, "controls": RANDOM_PAIRS}
    kept = {key: {name: summaries.pop(name)} if name in summaries else {} for key, name in apart.items()}
    return {"floors": summaries, **kept}


def read_floors(study: Path) -> dict[str, list[ScoreRow]]:
    """The scores of every row of the systems without a model, by system; empty before they are scored."""
    found: dict[str, list[ScoreRow]] = {}
    for row in _measured(study, FLOORS_PER_EXAMPLE):
        found.setdefault(row.pop("system"), []).append(row)
    return found


def per_example(rows: Sequence[Question], columns: Columns) -> list[ScoreRow]:
    """One row for each answer: `id`, `group` and every metric."""
    return [
        {"id": row["id"], "group": row["group"], **{name: column[at] for name, column in columns.items()}}
        for at, row in enumerate(rows)
    ]


def write_arm(
    folder: Path,
    draws: Mapping[str, decodings.Draws],
    scored: Mapping[str, Sequence[Columns]],
    settings: ScoreSettings,
    arm_print: str,
) -> None:
    """Write one arm's scores_per_example.jsonl and decodings_per_example.jsonl, then its scores.json.

    `draws` and `scored`: the answers and their scores by way of decoding.
    """
    rows, way = draws[decodings.GREEDY][0], settings["decoding"]
    by_way = {
        name: complete_columns(decodings.mean_over_draws(some), settings, rows, folder) for name, some in scored.items()
    }
    columns, answers = by_way.pop(way), [row for draw in draws[way] for row in draw]
    write_jsonl(folder / PER_EXAMPLE, per_example(rows, columns))
    decodings.write(folder, {name: per_example(rows, some) for name, some in by_way.items()})
    scores: Scores = {
        "arm": folder.name,
        **summarise(rows, columns, settings, answers),
        "per_example": PER_EXAMPLE,
        "settings": settings,
        "answers": sha256_file(folder / "generations.jsonl"),
        "also_read": {str(path.relative_to(folder)): sha256_file(path) for path in decodings.files(folder)},
        "fingerprint": arm_print,
    }
    ids = {row["id"] for row in rows}
    if likely := [row for row in _measured(folder, "likelihood.jsonl") if row["id"] in ids]:
        scores["metrics"] |= likelihood.weighted(likely, resampling(settings))
    if recited := _measured(folder, "memorization.jsonl"):
        kept = {name: [row[name] for row in recited] for name in ("recited", "matched", "agreement")}
        scores["memorization"] = summarise_columns(kept, [row["group"] for row in recited], *resampling(settings))
    if files := sampled_files(folder):
        scores["sampled"] = decodings.score_samples(files, ids, settings["confidence"])
    write_json(folder / "scores.json", scores)


def language_warnings(references: Sequence[str]) -> list[str]:
    """What the scores of test rows that are not in English do not say; none for English ones."""
    if scripts.is_english(references):
        return []
    share, digits = scripts.foreign_letters(references), scripts.only_digits(references)
    warnings = [f"{share:.0%} of the references' letters are not a to z: {ENGLISH_ONLY}"]
    if digits > 0.5:
        warnings.append(f"METEOR and BLEU see numbers and whole sentences only in {digits:.0%} of the references")
    return warnings


def resampling(settings: ScoreSettings) -> Resampling:
    return Resampling(settings["resamples"], settings["confidence"], settings["seed"])


def _measured(folder: Path | None, name: str) -> list[Json]:
    return read_jsonl(folder / name) if folder is not None and (folder / name).is_file() else []
