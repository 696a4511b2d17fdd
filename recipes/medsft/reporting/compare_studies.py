"""Several studies side by side: models, seeds, training rows, scores, and the learning curve over training rows."""

from pathlib import Path
from typing import Any, TypedDict

from matplotlib.figure import Figure

from medsft.errors import UserError
from medsft.files import fingerprint, read_json, read_jsonl, write_json, write_text
from medsft.records import Difference, Interval, Summary, TrainRecord
from medsft.reporting.figures import DPI, GREY, NO_METADATA, Look, arm_looks, plain
from medsft.reporting.rendering import data_uri, environment
from medsft.result_records import ArmMemory, Cost, Results
from medsft.study import lineage
from medsft.study.names import existing_study
from medsft.text import label, method_of

PAGES = ("compare.html", "compare.md", "compare.json")


class StudySummary(TypedDict):
    """One study of compare.json. `test_rows` is a fingerprint of its questions and references; `scored` says how its
    answers were drawn and read."""

    name: str
    verdict: list[str]
    primary: list[str]
    arms: dict[str, Summary]
    floors: dict[str, Summary]
    comparisons: list[Difference]
    cost: dict[str, Cost]
    memory: dict[str, ArmMemory]
    base_models: list[str]
    seeds: list[int]
    train_rows: dict[str, int]
    test_rows: str
    scored: dict[str, str]


class Point(TypedDict):
    """One arm of one study on the learning curve."""

    study: str
    arm: str
    train_rows: int
    n: int
    metrics: dict[str, Interval]


class StudyComparison(TypedDict):
    """compare.json, but for its title."""

    studies: list[StudySummary]
    primary: list[str]
    same_test_rows: bool
    scored_otherwise: list[str]
    points: list[Point]


def write(comparison: StudyComparison, title: str, folder: Path) -> None:
    """Write compare.html, compare.md, compare.json and curve.png into `folder`."""
    curve(comparison).savefig(folder / "curve.png", dpi=DPI, metadata=NO_METADATA)
    context = {"title": title, "comparison": comparison, "curve": data_uri(folder / "curve.png")}
    for name in ("compare.html", "compare.md"):
        template = environment(autoescape=name.endswith(".html")).get_template(f"{name}.j2")
        write_text(folder / name, template.render(context))
    write_json(folder / "compare.json", {"title": title, **comparison})


def gather(folders: list[Path]) -> StudyComparison:
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
        "scored_otherwise": scored_otherwise(studies),
        "points": [point for study in studies for point in _points(study, metrics)],
    }


def read_study(folder: Path) -> StudySummary:
    """One study's facts from its results.json and train.json files. Raises UserError where they disagree."""
    existing_study(folder)
    lineage.check_report(folder)
    results: Results = read_json(folder / "report" / "results.json")
    trained: dict[str, TrainRecord] = {name: read_json(folder / name / "train.json") for name in results["cost"]}
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
        "scored": _scored(read_json(folder / "comparison.json").get("settings", {})),
    }


def scored_otherwise(studies: list[StudySummary]) -> list[str]:
    """A sentence for each way in which the studies' answers were drawn or read differently: no test of methods."""
    found = []
    for what in dict.fromkeys(key for study in studies for key in study["scored"]):
        values = {study["name"]: study["scored"].get(what, "not recorded") for study in studies}
        if len(set(values.values())) > 1:
            found.append(f"{what}: {', '.join(f'{value} in {name}' for name, value in values.items())}")
    return found


def curve(comparison: StudyComparison) -> Figure:
    """One panel per primary metric: mean and interval of every trained arm over its training rows, baseline in grey."""
    metrics, points = comparison["primary"], comparison["points"]
    looks = arm_looks(point["arm"] for point in points)
    figure = Figure(figsize=(6.4, 0.8 + 2.6 * -(-len(metrics) // 2)), layout="constrained")
    panels = figure.subplots(-(-len(metrics) // 2), 2, squeeze=False).ravel()
    for panel, metric in zip(panels, metrics, strict=False):
        for arm in dict.fromkeys(point["arm"] for point in points):
            mine = sorted(
                ((p["train_rows"], p["metrics"][metric]) for p in points if p["arm"] == arm and metric in p["metrics"]),
                key=lambda point: point[0],
            )
            rows, values = [row for row, _ in mine], [value for _, value in mine]
            means = [value["mean"] for value in values]
            below = [0.0 if v["low"] is None else max(0.0, v["mean"] - v["low"]) for v in values]
            above = [0.0 if v["high"] is None else max(0.0, v["high"] - v["mean"]) for v in values]
            look: Look = {"color": GREY, "linestyle": "none", "marker": "_"} if arm == "baseline" else looks[arm]
            shown = plain(arm) if method_of(arm) == arm else ""  # another seed looks as its method does
            panel.errorbar(rows, means, [below, above], label=shown, capsize=3, markersize=5, **look)
        counts = sorted({point["train_rows"] for point in points})
        panel.set_xscale("log")
        panel.set_xticks(counts, [f"{rows}" for rows in counts])
        panel.minorticks_off()
        panel.set_title(label(metric), loc="left", fontsize=11, fontweight="bold")
        panel.grid(color="#dddddd", linewidth=0.6)
        panel.set_xlabel("training rows")
    for panel in panels[len(metrics) :]:
        panel.set_axis_off()
    if metrics and points:
        figure.legend(
            *panels[0].get_legend_handles_labels(), loc="outside upper left", frameon=False, ncols=4, fontsize=9
        )
    return figure


def _points(study: StudySummary, metrics: list[str]) -> list[Point]:
    """One point per arm; the untrained baseline has one at each number of rows that an arm of its study has."""
    points: list[Point] = []
    sizes = study["train_rows"]
    for arm, scores in study["arms"].items():
        counts = sorted(set(sizes.values())) if arm == "baseline" else [sizes[arm]] if arm in sizes else []
        kept = {metric: scores["metrics"][metric] for metric in metrics if metric in scores["metrics"]}
        points += [
            {"study": study["name"], "arm": arm, "train_rows": rows, "n": scores["n"], "metrics": kept}
            for rows in counts
        ]
    return points


def _scored(settings: dict[str, Any]) -> dict[str, str]:
    encoder = "encoder" in settings and f"{settings['encoder']}, layer {settings['layer']}, {settings['precision']}"
    known = {"decoding of the answers": settings.get("decoding", "greedy"), "encoder of BERTScore": encoder}
    return {what: str(value) for what, value in known.items() if value}


def _limit(train: TrainRecord) -> int | None:
    limit: int | None = (train.get("settings") or {}).get("max_train_rows")
    return limit


def _test_rows(folder: Path, arm: str) -> str:
    """A fingerprint of the questions and references that were answered: only equal ones can be compared directly."""
    rows = read_jsonl(folder / arm / "generations.jsonl")
    return fingerprint(sorted([row["prompt"], row["reference"]] for row in rows))
