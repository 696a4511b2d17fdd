"""Several studies side by side: what each was made of, its scores, and the learning curve over training rows."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from medsft.errors import UserError
from medsft.files import fingerprint, read_json, read_jsonl
from medsft.reporting.figures import arm_looks
from medsft.text import label

Json = dict[str, Any]


def gather(folders: list[Path]) -> Json:
    """The content of compare.json. Raises UserError where a study has no report, or fewer than two are given."""
    if len(folders) < 2:
        raise UserError("--studies: name at least two study folders, or their names under runs/")
    studies = [read_study(folder) for folder in folders]
    names = [study["name"] for study in studies]
    if len(set(names)) < len(names):
        raise UserError(f"--studies: two folders are called {max(names, key=names.count)}; rename one")
    metrics = [m for m in studies[0]["primary"] if all(m in study["primary"] for study in studies)]
    return {
        "studies": studies,
        "primary": metrics,
        "same_test_rows": len({study["test_rows"] for study in studies}) == 1,
        "points": [point for study in studies for point in _points(study, metrics)],
    }


def read_study(folder: Path) -> Json:
    """One study's facts from its results.json and train.json files."""
    results = read_json(folder / "report" / "results.json")
    trained = {name: read_json(folder / name / "train.json") for name in results["cost"]}
    rows = results["data"]["splits"]["train"]["rows"]
    return {
        "name": folder.resolve().name,
        "verdict": results["verdict"],
        "primary": results["primary"],
        "arms": results["arms"],
        "floors": results["floors"],
        "comparisons": results["comparisons"],
        "cost": results["cost"],
        "memory": results["memory"],
        "base_models": sorted({Path(train["base_model"]).name for train in trained.values()}),
        "seeds": sorted({train["seed"] for train in trained.values()}),
        "train_rows": {name: min(rows, _limit(train) or rows) for name, train in trained.items()},
        "test_rows": _test_rows(folder, next(iter(results["arms"]))),
    }


def curve(comparison: Json) -> Figure:
    """One panel per primary metric: mean and interval of every trained arm over its training rows, baseline in grey."""
    metrics, points = comparison["primary"], comparison["points"]
    looks = arm_looks(point["arm"] for point in points)
    figure = Figure(figsize=(6.4, 0.8 + 2.6 * -(-len(metrics) // 2)), layout="constrained")
    panels = figure.subplots(-(-len(metrics) // 2), 2, squeeze=False).ravel()
    for panel, metric in zip(panels, metrics, strict=False):
        for arm in dict.fromkeys(point["arm"] for point in points):
            mine = sorted(
                (p["train_rows"], p["metrics"][metric]) for p in points if p["arm"] == arm and metric in p["metrics"]
            )
            rows, values = [row for row, _ in mine], [value for _, value in mine]
            means = [value["mean"] for value in values]
            below = [max(0.0, value["mean"] - value["low"]) for value in values]
            above = [max(0.0, value["high"] - value["mean"]) for value in values]
            look = {"color": "#6b6b6b", "linestyle": "none", "marker": "_"} if arm == "baseline" else looks[arm]
            panel.errorbar(rows, means, [below, above], label=arm.replace("$", r"\$"), capsize=3, markersize=5, **look)
        panel.set_xscale("log")
        panel.set_title(label(metric), loc="left", fontsize=11, fontweight="bold")
        panel.grid(color="#dddddd", linewidth=0.6)
        panel.set_xlabel("training rows")
    for panel in panels[len(metrics) :]:
        panel.set_axis_off()
    if metrics:
        panels[0].legend(frameon=False, fontsize=9)
    return figure


def _points(study: Json, metrics: list[str]) -> list[Json]:
    """One point per arm; the untrained baseline stands wherever an arm of its study does."""
    points = []
    for arm, scores in study["arms"].items():
        places = sorted(set(study["train_rows"].values())) if arm == "baseline" else [study["train_rows"].get(arm)]
        kept = {metric: scores["metrics"][metric] for metric in metrics if metric in scores["metrics"]}
        points += [
            {"study": study["name"], "arm": arm, "train_rows": rows, "n": scores["n"], "metrics": kept}
            for rows in places
            if rows is not None
        ]
    return points


def _limit(train: Json) -> int | None:
    return (train.get("settings") or {}).get("max_train_rows")


def _test_rows(folder: Path, arm: str) -> str:
    """Which questions and references were answered, as one fingerprint: only equal ones can be compared directly."""
    rows = read_jsonl(folder / arm / "generations.jsonl")
    return fingerprint(sorted([row["prompt"], row["reference"]] for row in rows))
