"""Gather the files of a study folder into one results.json. Only reads and rearranges; computes no score of its own."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medsft.errors import UserError
from medsft.evaluation.ablations import FAULTS, SOUND
from medsft.evaluation.metrics.modules import PRIMARY
from medsft.files import read_json, read_jsonl
from medsft.source_study import published_scores

Json = dict[str, Any]
ARM_ORDER = ("baseline", "lora", "qlora", "full", SOUND, *FAULTS)
FLOOR_ORDER = ("constant", "shuffled", "echo", "nearest")
NOT_ARMS = ("data", "report", "review")
OFFLOAD_CHECK_OF = "full"
EXPLORED = (
    "explored",
    "seeds",
    "slices",
    "memorization",
    "guardrails",
    "faults",
    "single_cases",
)  # lists of comparison.json
COST = {  # keys of train.json, and how the report calls them
    "total_parameters": "parameters",
    "trainable_parameters": "trainable parameters",
    "trainable_percent": "trainable %",
    "steps": "optimizer steps",
    "best_step": "best step by dev loss",
    "tokens_seen": "tokens seen",
    "answer_tokens_seen": "answer tokens seen (these carry the loss)",
    "wall_seconds": "wall time, s",
    "tokens_per_second": "tokens per second",
    "energy_joules": "energy of the steps, J, as the device reports it",
    "energy_counted_by": "energy counted by",
    "seed": "seed",
}


@dataclass
class Arm:
    """The files of one scored arm. `train` is None where nothing was trained; `config` is the resolved YAML or ''."""

    name: str
    scores: Json
    train: Json | None
    generation: Json
    generations: list[Json]
    config: str


@dataclass
class Study:
    """Everything the report reads. `offload_runs` are trained but unscored folders named full_*."""

    name: str
    data: Json
    plan: Json | None
    comparison: Json
    arms: list[Arm]
    offload_runs: dict[str, Json]
    unscored: list[str]


def input_files(study_dir: Path) -> list[Path]:
    """Every file whose content the report depends on, in a fixed order."""
    top = [study_dir / "data" / "data_report.json", study_dir / "plan.json", study_dir / "comparison.json"]
    names = ("config.yaml", "train.json", "generation.json", "scores.json", "generations.jsonl")
    return [path for path in top + [arm / name for arm in _arm_folders(study_dir) for name in names] if path.is_file()]


def load_study(study_dir: Path) -> Study:
    """Read a study folder. Raises UserError that names the stage to run for whatever is missing or out of date."""
    folders = _arm_folders(study_dir)
    _require(study_dir, "no such study folder", "prepare_data.py")
    _require(study_dir / "data" / "data_report.json", "no data report", "prepare_data.py")
    if not any((folder / "generations.jsonl").is_file() for folder in folders):
        raise UserError(f"{study_dir}: no arm has answered yet; run recipes/generate.py --study_dir {study_dir} first")
    scored = [folder for folder in folders if (folder / "scores.json").is_file()]
    comparison, plan = study_dir / "comparison.json", study_dir / "plan.json"
    if not scored or not comparison.is_file():
        raise UserError(f"{study_dir}: nothing is scored yet; run recipes/score.py --study_dir {study_dir} first")

    begun = [
        f for f in folders if f not in scored and ((f / "train.json").is_file() or (f / "generations.jsonl").is_file())
    ]
    offload = [f for f in begun if f.name.startswith(f"{OFFLOAD_CHECK_OF}_") and (f / "train.json").is_file()]
    return Study(
        name=study_dir.resolve().name,
        data=_finite(read_json(study_dir / "data" / "data_report.json")),
        plan=_finite(read_json(plan)) if plan.is_file() else None,
        comparison=_load_comparison(comparison),
        arms=[_load_arm(folder) for folder in scored],
        offload_runs={folder.name: _finite(read_json(folder / "train.json")) for folder in offload},
        unscored=[folder.name for folder in begun if folder not in offload],
    )


def gather(study: Study) -> Json:
    """The content of results.json, except `title`, `verdict`, `fingerprint` and the report's own versions."""
    trained = {arm.name: arm.train for arm in study.arms if arm.train is not None}
    floors, comparisons = study.comparison["floors"], study.comparison["comparisons"]
    confidence = study.comparison.get("settings", {}).get("confidence", 0.95)
    places = {arm.name: place for place, arm in enumerate(study.arms)}
    return {
        "study": study.name,
        "arms": {arm.name: {key: arm.scores[key] for key in ("n", "metrics")} for arm in study.arms},
        "floors": {name: floors[name] for name in _ordered(floors, FLOOR_ORDER)},
        "comparisons": sorted(comparisons, key=lambda row: places.get(row["arm"], len(places))),
        "ceiling": study.comparison.get("ceiling", {}),
        **{name: study.comparison.get(name, []) for name in EXPLORED},
        "emergencies": study.comparison.get("emergencies", {}),
        "memorized": {arm.name: arm.scores["memorization"] for arm in study.arms if "memorization" in arm.scores},
        "sampled": {arm.name: arm.scores["sampled"] for arm in study.arms if "sampled" in arm.scores},
        "primary": primary_metrics(study),
        "confidence": confidence,
        "alpha": round(1 - confidence, 12),  # 1 - 0.95 is a little more than 0.05
        "memory": {
            n: {"predicted": t.get("predicted_memory"), "measured": t.get("peak_memory")} for n, t in trained.items()
        },
        "cost": {name: {key: train.get(key) for key in COST} for name, train in trained.items()},
        "offload_check": {name: loss_differences(study, run) for name, run in study.offload_runs.items()},
        "data": {key: value for key, value in study.data.items() if key != "lengths"},
        "study_table": published_scores.study_table({arm.name: arm.scores["metrics"] for arm in study.arms}),
        "versions": {arm.name: (arm.train or arm.generation).get("versions", {}) for arm in study.arms},
    }


def primary_metrics(study: Study) -> list[str]:
    """The metrics the verdict speaks about: those declared before any result is seen, as far as they were scored."""
    declared = study.comparison.get("settings", {}).get("primary", PRIMARY)
    return [metric for metric in declared if metric in study.arms[0].scores["metrics"]]


def loss_differences(study: Study, run: Json) -> list[Json]:
    """Loss of an offload run beside that of `full` at the steps both logged: {step, full, offload, difference}."""
    full: list[Json] = next(
        (arm.train["history"] for arm in study.arms if arm.name == OFFLOAD_CHECK_OF and arm.train), []
    )
    losses, logged = _losses(full), _losses(run["history"])
    return [
        {"step": step, "full": losses[step], "offload": loss, "difference": loss - losses[step]}
        for step, loss in logged.items()
        if step in losses
    ]


def _losses(history: list[Json]) -> dict[int, float]:
    return {row["step"]: row["loss"] for row in history if row.get("loss") is not None}


def _load_arm(folder: Path) -> Arm:
    scores = _finite(read_json(folder / "scores.json"))
    for name, metric in scores["metrics"].items():
        _check_interval(folder / "scores.json", name, metric)
    _require(folder / "generations.jsonl", "scores without answers", "generate.py")
    generations = read_jsonl(folder / "generations.jsonl")
    if len(generations) != scores["n"]:
        where = f"{folder}: scores.json is of {scores['n']} answers, generations.jsonl has {len(generations)}"
        raise UserError(f"{where}; run recipes/score.py --study_dir {folder.parent} again")
    train, config, generation = folder / "train.json", folder / "config.yaml", folder / "generation.json"
    return Arm(
        name=folder.name,
        scores=scores,
        train=_finite(read_json(train)) if train.is_file() else None,
        generation=_finite(read_json(generation)) if generation.is_file() else {},
        generations=generations,
        config=config.read_text(encoding="utf-8") if config.is_file() else "",
    )


def _load_comparison(path: Path) -> Json:
    comparison = _finite(read_json(path))
    for name, floor in comparison["floors"].items():
        for metric, value in floor["metrics"].items():
            _check_interval(path, f"{name}.{metric}", value)
    for row in comparison["comparisons"]:
        for key in ("difference", "low", "high", "p", "p_holm"):
            if row.get(key) is None:
                where = f"{row.get('arm')} on {row.get('metric')}"
                raise UserError(f"{path}: '{key}' of {where} is no number; run recipes/score.py again")
    return comparison


def _check_interval(path: Path, name: str, value: Json) -> None:
    if any(value.get(key) is None for key in ("mean", "low", "high")):
        raise UserError(f"{path}: metric '{name}' lacks a finite mean, low or high; run recipes/score.py again")


def _finite(value: Any) -> Any:
    """NaN and infinity become None, so that results.json is JSON everywhere (a diverged run logs a loss of NaN)."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _ordered(names: Any, order: tuple[str, ...]) -> list[str]:
    return sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))


def _arm_folders(study_dir: Path) -> list[Path]:
    children = study_dir.iterdir() if study_dir.is_dir() else []
    folders = {p.name: p for p in children if p.is_dir() and p.name not in NOT_ARMS and not p.name.startswith(".")}
    return [folders[name] for name in _ordered(folders, ARM_ORDER)]


def _require(path: Path, what: str, script: str) -> None:
    if not path.exists():
        raise UserError(f"{path}: {what}; run recipes/{script} first")
