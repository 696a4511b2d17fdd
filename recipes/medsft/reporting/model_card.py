"""The model card of each arm and of the study, in the Hub's own form; every number is read from the study's files."""

import json
from pathlib import Path
from typing import cast

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from medsft.errors import UserError
from medsft.evaluation.completeness import validation
from medsft.files import read_json, write_text
from medsft.models import embedded
from medsft.records import DataReport, Summary, TrainRecord
from medsft.reporting.rendering import environment
from medsft.result_records import Results

# Hub id of the weights in the embedded package: a published card names their origin.
ORIGIN = {embedded.SMOLLM2: "HuggingFaceTB/SmolLM2-135M-Instruct"}
PRIVACY = ("copy_", "longest_copy", "identity")  # beginnings of metric names
WEIGHTS = ("adapter", "model")


def write(arm_folder: Path) -> Path:
    """Write README.md beside an arm, and into its adapter/ or model/; returns the first.

    Scores come from report/results.json; before there is one, the card says that nothing was evaluated yet. Raises
    UserError where the arm has no train.json.
    """
    card = arm_card(arm_folder)
    path = arm_folder / "README.md"
    for folder in [arm_folder, *(arm_folder / name for name in WEIGHTS)]:
        if folder.is_dir():
            write_text(folder / "README.md", card)
    return path


def arm_card(arm_folder: Path, whole: bool | None = None, system: str = "") -> str:
    """The text of one arm's card, metadata included.

    `whole`: of an export, whether it is the whole model or an adapter; such a card says how to load it, with the text
    `system` before the patient's where the training rows had one.
    """
    train: TrainRecord = read_json(arm_folder / "train.json")
    results = _results(arm_folder.parent)
    return _card(
        arm_folder.parent,
        {arm_folder.name: train},
        results,
        f"{_short(train['base_model'])}-{train['arm']}",
        whole,
        system,
    )


def study_card(study_dir: Path, results: Results) -> str:
    """One card for all trained arms of a study. Raises UserError where none was trained."""
    trained = {name: study_dir / name / "train.json" for name in results["arms"]}
    arms: dict[str, TrainRecord] = {name: read_json(path) for name, path in trained.items() if path.is_file()}
    if not arms:
        raise UserError(f"{study_dir}: no arm was trained, so there is no model to describe")
    base = next(iter(arms.values()))["base_model"]
    return _card(study_dir, arms, results, f"{_short(base)}-{study_dir.resolve().name}")


def _card(
    study_dir: Path,
    arms: dict[str, TrainRecord],
    results: Results | None,
    name: str,
    whole: bool | None = None,
    system: str = "",
) -> str:
    report = study_dir / "data" / "data_report.json"
    data: DataReport | None = read_json(report) if report.is_file() else None
    scored = {arm: results["arms"][arm] for arm in arms if results and arm in results["arms"]}
    base = next(iter(arms.values()))["base_model"]
    adapters = all(train["trainable_percent"] < 100 for train in arms.values())
    metadata = ModelCardData(
        model_name=name,
        base_model=_hub_id(base),
        library_name="peft" if adapters and not whole else "transformers",
        pipeline_tag="text-generation",
        tags=["medsft", "trl", "sft", "medical-dialogue", "not-medical-advice"],
        eval_results=_eval_results(scored, data) or None,
    )
    body = environment(autoescape=False).get_template("model_card.md.j2")
    text = body.render(
        name=name,
        base=_hub_id(base) or _short(base),
        embedded=base in ORIGIN,
        arms=arms,
        scored=scored,
        results=results,
        data=data,
        data_name=_data_name(data),
        whole=whole,
        base_path=base,
        system=json.dumps(system, ensure_ascii=False) if system else "",
        completeness=validation.in_short(record) if results and (record := results.get("completeness")) else "",
        privacy=[m for m in _metrics(scored) if m.startswith(PRIVACY)],
    )
    return str(ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n{text}"))


def _eval_results(scored: dict[str, Summary], data: DataReport | None) -> list[EvalResult]:
    """One entry per arm and metric. The Hub has no field for intervals: they are in the card's own table."""
    return [
        EvalResult(
            task_type="text-generation",
            task_name="answering held-out patients",
            dataset_type="medsft-test-split",
            dataset_name=f"{_data_name(data)}, held-out groups",
            dataset_split="test",
            metric_type=metric,
            metric_name=f"{metric} ({arm}, n = {score['n']})",
            metric_value=round(value["mean"], 4),
        )
        for arm, score in scored.items()
        for metric, value in score["metrics"].items()
    ]


def _metrics(scored: dict[str, Summary]) -> list[str]:
    return list(next(iter(scored.values()))["metrics"]) if scored else []


def _results(study_dir: Path) -> Results | None:
    path = study_dir / "report" / "results.json"
    return cast("Results", read_json(path)) if path.is_file() else None


def _data_name(data: DataReport | None) -> str:
    """What the split was made from, without the folders of this machine."""
    arguments = data.get("arguments", {}) if data else {}
    return Path(str(arguments.get("data", "unknown data"))).name


def _hub_id(base: str) -> str | None:
    """The base's name on the hub; None for a folder of this machine."""
    return ORIGIN.get(base) or (None if base.startswith(("/", ".", "~")) or Path(base).is_dir() else base)


def _short(base: str) -> str:
    return Path(base).name
