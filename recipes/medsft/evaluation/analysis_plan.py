"""The analysis plan: what is tested, on which rows and how, written and hashed before the first answer.

generate.py writes analysis_plan.json from the options of score.py that stand beside its recipe, and every arm keeps the
hash of the plan it answered under. What changed since is listed in the report.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from medsft.arguments import GenerateArguments, ScoreArguments
from medsft.evaluation.comparability import engines
from medsft.evaluation.statistics.equivalence import read_margins
from medsft.evaluation.statistics.intervals import LEAST_GROUPS
from medsft.files import fingerprint, read_json, write_json
from medsft.inference.generations_file import has_answers
from medsft.records import Json, TrainRecord
from medsft.result_records import KeptPlan

FILE = "analysis_plan.json"
CORRECTIONS = (
    "Holm within each list: arms against the baseline, against each other, against naive baselines, over seeds"
)
SCORED = ("primary", "decoding", "safety_margin", "confidence", "resamples", "seed", "bert_model", "bert_layer")
ANSWERED = ("max_new_tokens", "do_sample", "seeds", "temperature", "top_p", "repetition_penalty", "likelihood_rows")


def plan(
    score: ScoreArguments, answers: Mapping[str, object], rows: Sequence[str | int], trained: Mapping[str, TrainRecord]
) -> Json:
    """Everything that decides the analysis. `answers` are options of generate.py, `rows` the ids of the test rows."""
    options = asdict(score)
    return {
        **{name: options[name] for name in SCORED},
        "margins": read_margins(score.margins),
        "corrections": CORRECTIONS,
        "least_groups": LEAST_GROUPS,
        "answers": {name: answers.get(name) for name in ANSWERED},
        "rows": {"n": len(rows), "ids": fingerprint(sorted(map(str, rows)))},
        "training_seeds": {arm: record["seed"] for arm, record in sorted(trained.items())},
    }


def declare(
    score: ScoreArguments, answers: GenerateArguments, rows: Sequence[str | int], trained: Mapping[str, TrainRecord]
) -> str:
    """Write the plan, unless answers exist that were made under one; returns the hash of the plan in force."""
    study = Path(answers.study_dir)
    path = study / FILE
    begun = has_answers(study) or any(study.glob("*/*.partial.jsonl")) or any(study.glob("*/sampled/*.jsonl"))
    if begun and path.is_file():
        return str(read_json(path)["hash"])
    made = plan(score, asdict(answers), rows, trained)
    when = "after answers existed" if begun else "before the first answer"
    write_json(path, {"plan": made, "hash": fingerprint(made), "declared": when})
    return fingerprint(made)


def compare(study: Path, now: Json, arms: Sequence[str]) -> KeptPlan:
    """The plan of the study, and every difference from the analysis that is made now."""
    path = study / FILE
    if not path.is_file():
        return {"plan_hash": "", "declared": "never", "changes": []}
    written = read_json(path)
    before, digest = written["plan"], fingerprint(written["plan"])
    changes = [
        f"{name}: {_shown(before.get(name))} was declared, {_shown(now.get(name))} is used"
        for name in now
        if name != "training_seeds" and before.get(name) != now[name]
    ]
    planned, seeds = before.get("training_seeds", {}), now["training_seeds"]
    changes += [f"{arm}: trained after the plan, seed {seed}" for arm, seed in seeds.items() if arm not in planned]
    changes += [
        f"{arm}: seed {planned[arm]} was declared, {seed} is used"
        for arm, seed in seeds.items()
        if arm in planned and planned[arm] != seed
    ]
    if digest != written["hash"]:
        changes.append(f"{FILE} was edited after it was written")
    for arm in arms:
        record = study / arm / "generation.json"
        known = read_json(record).get("plan_hash") if record.is_file() else None
        if known and known != digest:
            changes.append(f"{arm}: answered under another plan ({known})")
    changes += engines(study, arms)
    return {"plan_hash": digest, "declared": written["declared"], "changes": changes}


def answers_now(study: Path, arms: Sequence[str]) -> Json:
    """The options the arms answered with, from their generation.json; of several that differ, all."""
    records = [study / arm / "generation.json" for arm in arms]
    made = [read_json(path).get("settings", {}) for path in records if path.is_file()]
    found: Json = {}
    for name in ANSWERED:
        values = [settings[name] for settings in made if name in settings]
        unique = [value for at, value in enumerate(values) if value not in values[:at]]
        found[name] = unique[0] if len(unique) == 1 else unique or None
    return found


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) < 80 else text[:79] + "…"
