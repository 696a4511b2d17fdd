"""Render a study folder as report.html, report.md, results.json and figures; every number comes from its files."""

import math
import random
from dataclasses import asdict
from pathlib import Path

from medsft import __version__
from medsft.arguments import ReportArguments
from medsft.errors import UserError
from medsft.files import fingerprint, new_folder, read_json, sha256_file, write_json, write_text
from medsft.models.parameter_counts import known_config
from medsft.reporting import ablation_report, figures, model_card, tables
from medsft.reporting.rendering import data_uri, environment
from medsft.reporting.results import COST, Json, Study, gather, input_files, load_study
from medsft.reporting.verdict import verdict
from medsft.reporting.word_diff import differences
from medsft.source_study import facts, memory_claims, published_scores
from medsft.versions import code_fingerprint

ROOMS = ("reporting", "source_study", "evaluation", "text.py")  # the report is written anew when their code changes
OUTPUTS = ("report.html", "report.md", "results.json")
COLUMNS = 5  # metrics in one table: more do not fit a printed page
LIMITS = (
    "Not medical advice. The answers shown come from language models in a study; no clinician has checked them.",
    "ROUGE and BERTScore measure likeness to one doctor's wording, not whether an answer is right or safe.",
    "A difference that was not shown is not a proof of equality: look at its interval.",
    "Another training seed could move every trained arm; only the table of training seeds covers that.",
    "Red flags and urgent advice are found by rules over words: they compare arms, they do not certify safety.",
    "The intervals stand for drawing other patients like these, not for other hospitals, platforms or languages.",
)


def write_report(arguments: ReportArguments) -> tuple[Path, Json, bool]:
    """Write study_dir/report/ as a whole. Returns the folder, results.json's content, and whether it was there already.

    Raises UserError where an input is missing or broken, naming the stage to run.
    """
    if arguments.examples < 0:
        raise UserError(f"examples {arguments.examples}: give a whole number from 0")
    if arguments.hourly_rate is not None and not (arguments.hourly_rate >= 0 and math.isfinite(arguments.hourly_rate)):
        raise UserError(f"hourly_rate {arguments.hourly_rate}: give a number from 0")
    study_dir = Path(arguments.study_dir)
    study = load_study(study_dir)
    folder, mark = study_dir / "report", input_fingerprint(study_dir, arguments)
    if all((folder / name).is_file() for name in OUTPUTS):
        results = read_json(folder / "results.json")
        if results.get("fingerprint") == mark:
            return folder, results, True
    results = {"title": arguments.title, **gather(study), "fingerprint": mark}
    results["verdict"] = ablation_report.verdict(results) if results["faults"] else verdict(results)
    results["price"] = prices(results["cost"], arguments.hourly_rate)
    results["versions"]["report"] = {"medsft": __version__, "report_code": code_fingerprint(*ROOMS)}
    examples = draw_examples(study, arguments.examples, arguments.seed)
    with new_folder(folder) as temporary:
        figures.draw_all(study, results, temporary / "figures")
        context = render_context(study, results, examples, asdict(arguments))
        embedded = {path.stem: data_uri(path) for path in (temporary / "figures").glob("*.png")}
        page = environment(autoescape=True).get_template("report.html.j2").render(context, figures=embedded)
        write_text(temporary / "report.html", page)
        markdown = environment(autoescape=False).get_template("report.md.j2").render(context)
        write_text(temporary / "report.md", markdown)
        write_json(temporary / "results.json", results)
        if results["cost"]:
            write_text(temporary / "model_card.md", model_card.study_card(study_dir, results))
    for arm in results["cost"]:
        model_card.write(study_dir / arm)  # now with the scores
    return folder, results, False


def input_fingerprint(study_dir: Path, arguments: ReportArguments) -> str:
    """Changes with the content of any input file, any option but the folder's place, and the code that writes it."""
    files = {str(path.relative_to(study_dir)): sha256_file(path) for path in input_files(study_dir)}
    options = {name: value for name, value in asdict(arguments).items() if name != "study_dir"}
    return fingerprint(code_fingerprint(*ROOMS), files, options, study_dir.resolve().name)


def draw_examples(study: Study, count: int, seed: int) -> list[Json]:
    """`count` test rows drawn by seed among those every arm answered, in file order, with each arm's answer."""
    by_arm = {arm.name: {row["id"]: row for row in arm.generations} for arm in study.arms}
    first, *others = by_arm.values()
    shared = [row_id for row_id in first if all(row_id in rows for rows in others)]
    drawn = set(random.Random(seed).sample(range(len(shared)), min(count, len(shared))))
    return [
        {**first[row_id], "answers": {name: _marked(rows[row_id], first[row_id]) for name, rows in by_arm.items()}}
        for index, row_id in enumerate(shared)
        if index in drawn
    ]


def prices(cost: dict[str, Json], hourly_rate: float | None) -> dict[str, float | None]:
    """What each arm's training cost at the user's hourly rate: wall time only, without set-up and evaluation."""
    if hourly_rate is None:
        return {}
    hours = {arm: (row["wall_seconds"] or 0) / 3600 for arm, row in cost.items() if row["wall_seconds"] is not None}
    return {arm: round(hourly_rate * hours[arm], 4) if arm in hours else None for arm in cost}


def not_measured(study: Study, results: Json) -> list[str]:
    """What a reader could take for granted and this run does not show."""
    compared = {row["arm"] for row in results["comparisons"]}
    missing = [f"{name}: begun, but not scored (generate.py, then score.py)." for name in study.unscored]
    missing += [
        f"{arm}: not compared with the baseline; run score.py again."
        for arm in results["arms"]
        if arm != "baseline" and arm not in compared
    ]
    if study.plan is None:
        missing.append("Memory plan: there is no plan.json (plan_memory.py).")
    if not any((memory["measured"] or {}).get("device_bytes") for memory in results["memory"].values()):
        missing.append("GPU memory: no arm of this study was trained on a GPU.")
    if not results["emergencies"].get("emergencies"):
        missing.append("Urgent advice: no test message is an emergency by the rules or by its doctor.")
    if not results["memorized"]:
        missing.append("Memorization: no training answer was asked for (generate.py --memorization_rows 100).")
    if not results["seeds"]:
        missing.append(
            "How far the results move with another training seed: train arms named METHOD_seed1, METHOD_seed2."
        )
    if not any(cost["energy_joules"] for cost in results["cost"].values()):
        missing.append("Energy: no device of this study reported any.")
    if not results["price"]:
        missing.append("Money: no hourly rate was given (report.py --hourly_rate 2.5).")
    return missing + [
        "Whether the answers are medically right, safe or kind: no clinician read them.",
        "What fine-tuning cost the model elsewhere (forgetting).",
    ]


def render_context(study: Study, results: Json, examples: list[Json], options: Json) -> Json:
    """What both templates see."""
    others = [m for m in study.arms[0].scores["metrics"] if m not in results["primary"]]
    parts = [others[start : start + COLUMNS] for start in range(0, len(others), COLUMNS)]
    base_models = {(arm.train or arm.generation).get("base_model") for arm in study.arms} - {None}
    return {
        "results": results,
        "study": study,
        "examples": examples,
        "options": options,
        "tables": [("Primary metrics", results["primary"]), *(("Other metrics", part) for part in parts)],
        "base_models": sorted(base_models),
        "plan_gpus": study.plan["hardware"]["gpus"] if study.plan else 0,
        "cost_labels": COST,
        "not_measured": not_measured(study, results),
        "limits": LIMITS,
        "published_source": published_scores.SOURCE,
        "published_noise": published_scores.NOISE,
        "published_meaning": published_scores.MEANING,
        "study_tables": facts.tables(
            results,
            {arm.name: arm.train for arm in study.arms if arm.train},
            memory_claims.claims(known_config(memory_claims.STUDY_MODEL)),
        ),
        "cost_keys": cost_keys(results),
        "evaluation_tables": tables.evaluation_tables(results),
        "loss_caption": loss_caption(study),
        "fault_tables": ablation_report.tables(results),
    }


def loss_caption(study: Study) -> str:
    """Which tokens the losses are over; in plain words where that differs between the arms."""
    alike = [(arm.train or {}).get("comparable") or {} for arm in study.arms if arm.train]
    kinds = {(each.get("loss_on"), each.get("end_of_turn_loss")) for each in alike}
    if len(kinds) > 1:
        return "The arms put their loss on different tokens, so these curves cannot be compared in height."
    return "Loss on the doctor's words and the end of turn only."


def cost_keys(results: Json) -> list[str]:
    """The rows of the table of costs; energy only where some device reported it."""
    costs = results["cost"].values()
    return [key for key in COST if not key.startswith("energy") or any(cost[key] for cost in costs)]


def _marked(answer: Json, baseline: Json) -> Json:
    """An answer with its pieces beside the first arm's, the baseline's where there is one."""
    return {**answer, "pieces": differences(baseline["prediction"], answer["prediction"])}
