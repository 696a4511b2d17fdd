"""What finding each arm's learning rate took, from sweep/sweep.json; nothing where the study was not swept."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from medsft.files import read_json
from medsft.records import Json
from medsft.result_records import Results, Tuning
from medsft.text import count, method_of

SWEEP = Path("sweep") / "sweep.json"
LABELS = ("learning rates tried", "learning rate of the arm", "tuning, all rates tried, s")


def files(study: Path) -> list[Path]:
    """Every file that this part depends on, in a fixed order."""
    sweep = study / SWEEP
    return [sweep, *sorted(sweep.parent.glob("*/train.json"))] if sweep.is_file() else []


def read(study: Path, configs: Mapping[str, str]) -> dict[str, Tuning]:
    """{arm: what tuning it took} of a study that was swept. `configs`: the resolved YAML of each trained arm, or ''.

    An arm that has another rate than the sweep chose for it was not tuned, whatever was tried.
    """
    if not (study / SWEEP).is_file():
        return {}
    swept: dict[str, Json] = read_json(study / SWEEP)["arms"]
    found: dict[str, Tuning] = {}
    for arm, config in configs.items():
        rate = (yaml.safe_load(config) or {}).get("learning_rate")
        rate = None if rate is None else float(rate)
        choice: Json = swept.get(method_of(arm), {"runs": [], "chosen": None, "seconds": 0.0})
        tried = choice["runs"]
        found[arm] = {
            "rates_tried": sorted({run["learning_rate"] for run in tried}),
            "chosen": choice["chosen"],
            "learning_rate": rate,
            "tuned": rate is not None and rate == choice["chosen"],
            "seconds": round(max(choice["seconds"], _trained_seconds(study, method_of(arm), tried)), 1),
        }
    return found


def _trained_seconds(study: Path, method: str, tried: list[Json]) -> float:
    """The training time of the trials: a sweep that was continued counts only what it ran itself."""
    names = (f"{method}_{run['learning_rate']:g}_{run['steps']}_steps" for run in tried)
    records = (study / SWEEP.parent / name / "train.json" for name in names)
    return sum(read_json(path)["wall_seconds"] for path in records if path.is_file())


def rows(results: Results) -> dict[str, list[str]]:
    """The rows of the table of costs: label, and a text for each trained arm."""
    found = [results["tuning"].get(arm) for arm in results["cost"]]
    if not any(found):
        return {}
    tried = [count(len(one["rates_tried"])) if one and one["rates_tried"] else "–" for one in found]
    rates = ["–" if one is None or one["learning_rate"] is None else _rate(one) for one in found]
    seconds = [count(one["seconds"]) if one and one["seconds"] else "–" for one in found]
    return dict(zip(LABELS, (tried, rates, seconds), strict=True))


def sentence(results: Results) -> str:
    """'Tuning: lora 3 rates, 0.003 chosen, in 99 s beside 33 s of training; full not tuned (0.0003).'"""
    said = []
    for arm, found in results["tuning"].items():
        rate = "rate unknown" if found["learning_rate"] is None else f"{found['learning_rate']:g}"
        if not found["tuned"]:
            unused = f"; {len(found['rates_tried'])} rates tried and not used" if found["rates_tried"] else ""
            said.append(f"{arm} not tuned ({rate}{unused})")
            continue
        wall = results["cost"][arm]["wall_seconds"]
        beside = f" beside {count(wall)} s of training" if wall else ""
        several = method_of(arm) != arm
        took = f"with the rate of {method_of(arm)}" if several else f"in {count(found['seconds'])} s{beside}"
        said.append(f"{arm} {len(found['rates_tried'])} rates tried, {rate} chosen, {took}")
    return f"The learning rate by dev loss of short runs: {'; '.join(said)}." if said else ""


def minutes(results: Results, arm: str) -> str:
    """'and 1.7 min to find its rate' for the first screen; '' where nothing was tried."""
    found = results["tuning"].get(arm)
    if found is None:
        return ""
    return f"and {found['seconds'] / 60:.1f} min to find its rate" if found["tuned"] else "not tuned"


def _rate(found: Tuning) -> str:
    return f"{found['learning_rate']:g}" + ("" if found["tuned"] else ", not tuned")
