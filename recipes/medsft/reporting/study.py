"""Read a study folder for the report, and name the stage to run for whatever is missing or out of date."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from medsft.errors import UserError
from medsft.evaluation import decodings
from medsft.evaluation.ablations import FAULTS, SOUND
from medsft.files import read_json, read_jsonl
from medsft.memory.plan_records import Plan
from medsft.records import DataReport, Generation, GenerationRecord, Json, ScoreRow, Scores, TrainRecord
from medsft.reporting.apart import sections
from medsft.reporting.sections import tuning
from medsft.reporting.summary import ratings
from medsft.result_records import ALSO_TEST, Comparison
from medsft.study import lineage
from medsft.study.names import existing_study

UNTRAINED = ("baseline", "baseline_prompted", "baseline_fewshot", "baseline_nf4")
ARM_ORDER = (*UNTRAINED, "lora", "qlora", "full", SOUND, *FAULTS)
NOT_ARMS = ("data", "report", "review", "sweep", ALSO_TEST)
OFFLOAD_CHECK_OF = "full"
PER_EXAMPLE = "scores_per_example.jsonl"
TESTED = ("difference", "low", "high", "p", "p_holm")  # numbers that every row of `comparisons` has
T = TypeVar("T")


@dataclass
class ArmResults:
    """The files of one scored arm. `train` is None where nothing was trained; `config` is the resolved YAML or ''.

    `per_example` are the scores of each answer by the row's id, `greedy_scores` those of the greedy answers, which
    `generations` are.
    """

    name: str
    scores: Scores
    train: TrainRecord | None
    generation: GenerationRecord
    generations: list[Generation]
    config: str
    per_example: dict[str | int, ScoreRow]
    greedy_scores: dict[str | int, ScoreRow]


@dataclass
class Study:
    """Everything the report reads. `offload_runs` are trained but unscored folders named full_*."""

    name: str
    data: DataReport
    plan: Plan | None
    comparison: Comparison
    arms: list[ArmResults]
    offload_runs: dict[str, TrainRecord]
    unscored: list[str]
    ratings: dict[str, Json]

    def trained(self) -> dict[str, TrainRecord]:
        """train.json of the arms that have one, by arm."""
        return {arm.name: arm.train for arm in self.arms if arm.train is not None}


def input_files(study_dir: Path) -> list[Path]:
    """Every file whose content the report depends on, in a fixed order."""
    top = [study_dir / "data" / "data_report.json", study_dir / "plan.json", study_dir / "comparison.json"]
    names = ["config.yaml", "train.json", "generation.json", "scores.json", "generations.jsonl", PER_EXAMPLE]
    names.append(decodings.PER_EXAMPLE)
    top += sorted(study_dir.glob("review/*_review.json"))
    own = [path for path in top + [arm / name for arm in _arm_folders(study_dir) for name in names] if path.is_file()]
    return [*own, *sections.files(study_dir), *tuning.files(study_dir)]


def load_study(study_dir: Path) -> Study:
    """Read a study folder. Raises UserError that names the stage to run for whatever is missing or out of date."""
    folders = _arm_folders(study_dir)
    existing_study(study_dir)
    _require(study_dir / "data" / "data_report.json", "no data report", "prepare_data.py")
    if not any((folder / "generations.jsonl").is_file() for folder in folders):
        raise UserError(f"{study_dir}: no arm has answered yet; run recipes/generate.py --study_dir {study_dir} first")
    scored = [folder for folder in folders if (folder / "scores.json").is_file()]
    comparison, plan = study_dir / "comparison.json", study_dir / "plan.json"
    if not scored or not comparison.is_file():
        raise UserError(f"{study_dir}: nothing is scored yet; run recipes/score.py --study_dir {study_dir} first")

    lineage.check_arms(study_dir, [folder.name for folder in scored])
    lineage.check_scores(study_dir, [folder.name for folder in scored])
    for further in sorted((study_dir / ALSO_TEST).glob("*/comparison.json")):
        answered = [path.parent.name for path in further.parent.glob("*/scores.json")]
        lineage.check_arms(study_dir, answered, further.parent.name)
        lineage.check_scores(study_dir, answered, further.parent.name)

    begun = [
        f for f in folders if f not in scored and ((f / "train.json").is_file() or (f / "generations.jsonl").is_file())
    ]
    offload = [f for f in begun if f.name.startswith(f"{OFFLOAD_CHECK_OF}_") and (f / "train.json").is_file()]
    return Study(
        name=study_dir.resolve().name,
        data=finite(read_json(study_dir / "data" / "data_report.json")),
        plan=finite(read_json(plan)) if plan.is_file() else None,
        comparison=_load_comparison(comparison),
        arms=[_load_arm(folder) for folder in scored],
        offload_runs={folder.name: finite(read_json(folder / "train.json")) for folder in offload},
        unscored=[folder.name for folder in begun if folder not in offload],
        ratings=ratings.read(study_dir, [folder.name for folder in scored]),
    )


def ordered(names: Iterable[str], order: tuple[str, ...]) -> list[str]:
    """The names that `order` knows in its order, then the others by alphabet."""
    return sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))


def finite(value: T) -> T:
    """NaN and infinity become None, so that results.json is JSON everywhere (a diverged run logs a loss of NaN)."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}  # type: ignore[return-value]
    if isinstance(value, list):
        return [finite(item) for item in value]  # type: ignore[return-value]
    return None if isinstance(value, float) and not math.isfinite(value) else value  # type: ignore[return-value]


def _load_arm(folder: Path) -> ArmResults:
    scores: Scores = finite(read_json(folder / "scores.json"))
    for name, metric in scores["metrics"].items():
        _check_interval(folder / "scores.json", name, metric)
    _require(folder / "generations.jsonl", "scores without answers", "generate.py")
    generations = read_jsonl(folder / "generations.jsonl")
    rows = folder / PER_EXAMPLE
    scored = {row["id"]: row for row in read_jsonl(rows)} if rows.is_file() else {}
    if scored and len(scored) == scores["n"]:  # score.py --max_rows scores the first ones
        generations = [row for row in generations if row["id"] in scored]
    if len(generations) != scores["n"]:
        found = f"{folder}: scores.json covers {scores['n']} answers, generations.jsonl has {len(generations)}"
        raise UserError(f"{found}; run recipes/score.py --study_dir {folder.parent} again")
    train, config, generation = folder / "train.json", folder / "config.yaml", folder / "generation.json"
    return ArmResults(
        name=folder.name,
        scores=scores,
        train=finite(read_json(train)) if train.is_file() else None,
        generation=finite(read_json(generation)) if generation.is_file() else {},
        generations=generations,  # type: ignore[arg-type]  # read_jsonl knows no keys
        config=config.read_text(encoding="utf-8") if config.is_file() else "",
        per_example=scored,
        greedy_scores=_greedy(folder, scores) or scored,
    )


def _greedy(folder: Path, scores: Scores) -> dict[str | int, ScoreRow]:
    """The scores of the greedy answers by row, where other answers are the primary ones; else {}."""
    path = folder / decodings.PER_EXAMPLE
    if scores["settings"].get("decoding", decodings.GREEDY) == decodings.GREEDY or not path.is_file():
        return {}
    return {row["id"]: row for row in read_jsonl(path) if row.get("decoding") == decodings.GREEDY}


def _load_comparison(path: Path) -> Comparison:
    comparison: Comparison = finite(read_json(path))
    for name, scores in comparison["floors"].items():
        for metric, value in scores["metrics"].items():
            _check_interval(path, f"{name}.{metric}", value)
    for row in comparison["comparisons"]:
        optional = ("low", "high") if row.get("no_interval") else ()
        if lacking := [key for key in TESTED if row.get(key) is None and key not in optional]:
            tested = f"{row.get('arm')} on {row.get('metric')}"
            raise UserError(f"{path}: '{lacking[0]}' of {tested} is not a number; run recipes/score.py again")
    return comparison


def _check_interval(path: Path, name: str, value: Mapping[str, object]) -> None:
    needed = ("mean",) if value.get("no_interval") else ("mean", "low", "high")
    if any(value.get(key) is None for key in needed):
        raise UserError(f"{path}: metric '{name}' lacks a finite mean, low or high; run recipes/score.py again")


def _arm_folders(study_dir: Path) -> list[Path]:
    children = study_dir.iterdir() if study_dir.is_dir() else []
    folders = {p.name: p for p in children if p.is_dir() and p.name not in NOT_ARMS and not p.name.startswith(".")}
    return [folders[name] for name in ordered(folders, ARM_ORDER)]


def _require(path: Path, what: str, script: str) -> None:
    if not path.exists():
        raise UserError(f"{path}: {what}; run recipes/{script} first")
