"""Render a study folder as report.html, report.md, results.json and figures; every number comes from its files."""

import math
from dataclasses import asdict
from pathlib import Path

from medsft import __version__
from medsft.arguments import ReportArguments
from medsft.errors import UserError
from medsft.evaluation.forgetting import study_files
from medsft.files import fingerprint, new_folder, read_json, sha256_file, write_json, write_text
from medsft.models.parameter_counts import known_config
from medsft.reporting import ablation_report, figures, model_card, tables, verdict
from medsft.reporting.apart import sections
from medsft.reporting.rendering import data_uri, environment
from medsft.reporting.results import gather
from medsft.reporting.sections import tuning
from medsft.reporting.sentences import paragraphs
from medsft.reporting.study import Study, input_files, load_study
from medsft.reporting.summary import (
    checklist,
    examples,
    glance,
    metric_groups,
    paper,
    quality_cost,
    ratings,
    safety,
    trial,
)
from medsft.result_records import Results
from medsft.source_study import facts, memory_claims, published_scores
from medsft.versions import code_fingerprint

ROOMS = ("reporting", "source_study", "evaluation", "text.py")  # the report is written anew when their code changes
OUTPUTS = ("report.html", "report.md", "results.json")
COLUMNS = 5  # metrics in one table: more do not fit a printed page


def write_report(arguments: ReportArguments) -> tuple[Path, Results, bool]:
    """Write study_dir/report/ as a whole. Returns the folder, results.json's content, and whether it was there already.

    Raises UserError where an input is missing or broken, naming the stage to run.
    """
    check(arguments)
    study_dir = Path(arguments.study_dir)
    study = load_study(study_dir)
    folder, digest = study_dir / "report", input_fingerprint(study_dir, arguments)
    if all((folder / name).is_file() for name in OUTPUTS):
        written: Results = read_json(folder / "results.json")
        if written.get("fingerprint") == digest:
            return folder, written, True
    results = gather(study, arguments.title, digest, arguments.hourly_rate)
    if forgetting := study_files.of_study(study_dir):
        results["forgetting"] = forgetting
    results["tuning"] = tuning.read(study_dir, {arm.name: arm.config for arm in study.arms if arm.train})
    results["trial"] = trial.reasons(results, study.trained())
    results["verdict"] = ablation_report.verdict(results) if results["faults"] else verdict.verdict(results)
    results["verdict"] += filter(None, [ratings.preferred(results)])
    results["verdict"][:0] = filter(None, [trial.sentence(results["trial"])])
    results["glance"], unnamed = glance.explained(results)
    results["versions"]["report"] = {"medsft": __version__, "report_code": code_fingerprint(*ROOMS)}
    with new_folder(folder) as temporary:
        figures.draw_all(study, results, temporary / "figures")
        quality_cost.draw(results, temporary / "figures")
        context = render_context(study, results, arguments) | {"unnamed_arms": unnamed}
        embedded = {path.stem: data_uri(path) for path in (temporary / "figures").glob("*.png")}
        page = environment(autoescape=True).get_template("report.html.j2").render(context, figures=embedded)
        write_text(temporary / "report.html", page)
        markdown = environment(autoescape=False).get_template("report.md.j2").render(context)
        write_text(temporary / "report.md", markdown)
        paper.write(results, base_models(study), temporary)
        write_json(temporary / "results.json", results)
        if results["cost"]:
            write_text(temporary / "model_card.md", model_card.study_card(study_dir, results))
    for arm in results["cost"]:
        model_card.write(study_dir / arm)  # now with the scores
    return folder, results, False


def check(arguments: ReportArguments) -> None:
    """Raise UserError for options that make no sense."""
    rate = arguments.hourly_rate
    if arguments.examples < 0:
        raise UserError(f"examples {arguments.examples}: give a whole number from 0")
    if rate is not None and not (rate >= 0 and math.isfinite(rate)):
        raise UserError(f"hourly_rate {rate}: give a number from 0")


def input_fingerprint(study_dir: Path, arguments: ReportArguments) -> str:
    """Changes with the content of any input file, any option but the folder's path, and the code that writes it."""
    files = {
        str(path.relative_to(study_dir)): sha256_file(path)
        for path in [*input_files(study_dir), *study_files.input_files(study_dir)]
    }
    options = {name: value for name, value in asdict(arguments).items() if name != "study_dir"}
    return fingerprint(code_fingerprint(*ROOMS), files, options, study_dir.resolve().name)


def findings(results: Results) -> dict[str, list[str]]:
    """The sentences of the verdict under headings, and what people preferred; of faults what each changes."""
    groups = {"Faults": ablation_report.verdict(results)} if results["faults"] else verdict.grouped(results)
    preferred = ratings.preferred(results)
    return groups | ({"What people preferred": [preferred]} if preferred else {})


def base_models(study: Study) -> list[str]:
    """The base models of the arms, as their records name them."""
    return sorted({(arm.train or arm.generation).get("base_model") or "" for arm in study.arms} - {""})


def render_context(study: Study, results: Results, arguments: ReportArguments) -> dict[str, object]:
    """What both templates see."""
    scored = study.arms[0].scores["metrics"]
    bases = base_models(study)
    claims = memory_claims.claims(known_config(memory_claims.STUDY_MODEL))
    return {
        "results": results,
        "study": study,
        "options": asdict(arguments),
        "sentences": paragraphs(study, results, arguments),
        "examples": examples.draw(study, arguments.examples, arguments.seed),
        "safety": safety.table(results),
        "ratings": ratings.table(results),
        "groups": [
            (group, [some[start : start + COLUMNS] for start in range(0, len(some), COLUMNS)])
            for group, some in metric_groups.grouped(scored)
        ],
        "checklist": checklist.table(results, bases),
        "unanswered": checklist.unanswered(results, bases),
        "base_models": bases,
        "prompted": [name for name in results["arms"] if name in glance.PROMPTED],
        "plan_gpus": study.plan["hardware"]["gpus"] if study.plan else 0,
        "cost_labels": tables.cost_labels(results),
        "tuning": tuning.rows(results),
        "trial": trial.sentence(results["trial"]),
        "findings": findings(results),
        "numbers": verdict.numbers(results),
        "safety_tables": safety.behind(results),
        "evaluation_tables": [*tables.evaluation_tables(results), *sections.tables(Path(arguments.study_dir))],
        "fault_tables": ablation_report.tables(results),
        "study_tables": facts.tables(results, study.trained(), claims),  # type: ignore[arg-type]
        "published_source": published_scores.SOURCE,
    }
