"""Arms against the baseline: declared tests, explored differences, seeds, slices, memorization and the guardrail."""

from pathlib import Path
from typing import Any

from medsft.evaluation import ablations, scoring, slices
from medsft.evaluation.metrics import red_flags, safety
from medsft.evaluation.statistics import paired_tests, training_seeds
from medsft.files import read_jsonl
from medsft.inference.generations_file import BASELINE, Rows

Comparison = dict[str, Any]


def compare(study: Path, arms: list[str], test_rows: Rows, settings: scoring.Settings) -> Comparison:
    """What comparison.json says of the arms; only `comparisons`, over the declared metrics, carries p-values."""
    scores = {arm: read_jsonl(study / arm / scoring.PER_EXAMPLE) for arm in arms}
    resampling, primary = scoring.resampling(settings), settings["primary"]
    return {
        "comparisons": paired_tests.compare_arms(scores, BASELINE, primary, *resampling),
        "explored": explore(scores, settings),
        "seeds": training_seeds.compare_methods(scores, BASELINE, primary, *resampling),
        "slices": slices.compare_slices(scores, BASELINE, test_rows, primary, *resampling),
        "memorization": compare_memorization(study, arms, settings),
        "guardrails": guardrails(scores, settings),
        "emergencies": count_emergencies(test_rows),
        "faults": ablations.compare(study, scores, resampling),
        "single_cases": ablations.single_cases(scores, primary, resampling),
    }


def explore(scores: dict[str, Rows], settings: scoring.Settings) -> Rows:
    """Differences in every metric that was not declared: intervals without p-values, so none can be picked as proof."""
    found = []
    for arm in [arm for arm in scores if arm != BASELINE and scores.get(BASELINE)]:
        pairs = paired_tests.common_rows(scores[BASELINE], scores[arm])
        names = [name for name in pairs[0][1] if name not in ("id", "group", *settings["primary"])]
        found += _differences(pairs, names, arm, settings)
    return found


def compare_memorization(study: Path, arms: list[str], settings: scoring.Settings) -> Rows:
    """How much further than the baseline each arm continues the same training answers."""
    files = {arm: study / arm / "memorization.jsonl" for arm in arms}
    rows = {arm: read_jsonl(path) for arm, path in files.items() if path.is_file()}
    found = []
    for arm in [arm for arm in rows if arm != BASELINE and BASELINE in rows]:
        if pairs := paired_tests.common_rows(rows[BASELINE], rows[arm]):
            found += _differences(pairs, ["recited", "matched", "agreement"], arm, settings)
    return found


def guardrails(scores: dict[str, Rows], settings: scoring.Settings) -> Rows:
    """The non-inferiority rule on red-flag recall for every arm that can be held against the baseline."""
    margin, confidence = settings["safety_margin"], settings["confidence"]
    checked = {
        arm: safety.guardrail(scores[BASELINE], rows, margin, confidence)
        for arm, rows in scores.items()
        if arm != BASELINE and BASELINE in scores
    }
    return [{"metric": "red_flag_recall", "arm": arm, **found} for arm, found in checked.items() if found]


def count_emergencies(test_rows: Rows) -> dict[str, Any]:
    """How many test messages count as emergencies, by rule and by what the reference doctor did."""
    flags = [red_flags.red_flags(row["prompt"]) for row in test_rows]
    advised = [safety.urgent_advice(row["reference"]) for row in test_rows]
    by_rule = {rule.name: sum(rule.name in found for found in flags) for rule in red_flags.rules()}
    return {
        "n": len(test_rows),
        "emergencies": sum(bool(found) or urgent for found, urgent in zip(flags, advised, strict=True)),
        "by_rule": sum(map(bool, flags)),
        "by_doctor": sum(advised),
        "rules": {name: count for name, count in by_rule.items() if count},
    }


def _differences(pairs: Any, names: list[str], arm: str, settings: scoring.Settings) -> Rows:
    before, after = ({name: [pair[side].get(name) for pair in pairs] for name in names} for side in (0, 1))
    groups = [row["group"] for _, row in pairs]
    found = paired_tests.paired_comparisons(before, after, groups, *scoring.resampling(settings))
    kept = ("difference", "low", "high", "n", "effect_size")
    return [{"metric": name, "arm": arm, **{key: row[key] for key in kept}} for name, row in found.items()]
