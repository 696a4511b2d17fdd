"""Arms against the baseline, each other and the naive baselines: tests, other differences, seeds, slices, guardrail."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TypedDict

from medsft.evaluation import ablations, decodings, naive_baselines, scoring, slices
from medsft.evaluation.metrics import red_flags, safety
from medsft.evaluation.metrics.directions import direction
from medsft.evaluation.statistics import paired_tests, training_seeds
from medsft.evaluation.statistics.equivalence import quality
from medsft.evaluation.statistics.intervals import ratio_interval
from medsft.files import read_jsonl
from medsft.inference.generations_file import BASELINE
from medsft.records import Difference, Json, Question, ScoreRow, ScoreSettings
from medsft.result_records import AblationRow, Explored, SeedChange, SliceDifference
from medsft.text import method_of

Scored = Mapping[str, list[ScoreRow]]


class Emergencies(TypedDict):
    """Number of test messages that are emergencies, by what the patient wrote (`by_rule`) or by the doctor's advice."""

    n: int
    emergencies: int
    by_rule: int
    by_doctor: int


class FloorComparisons(TypedDict):
    """The part of comparison.json on answers that need no model."""

    floor_comparisons: list[Difference]
    retrieval_comparisons: list[Explored]


class Comparisons(FloorComparisons):
    """What comparison.json says of the arms. Only declared metrics have p-values, corrected within each list.

    `pairs` are arm against arm, `floor_comparisons` every arm against every naive baseline. Retrieval is compared
    without a test: it may use the whole corpus.
    """

    comparisons: list[Difference]
    pairs: list[Difference]
    explored: list[Explored]
    seeds: list[SeedChange]
    slices: list[SliceDifference]
    memorization: list[Explored]
    decodings: list[Json]  # the comparisons with the baseline in every other way of decoding
    guardrails: list[Json]
    emergencies: Emergencies
    faults: list[AblationRow]
    single_cases: list[ablations.SingleCases]


def compare(study: Path, arms: Sequence[str], test_rows: Sequence[Question], settings: ScoreSettings) -> Comparisons:
    """Every comparison with the baseline, from the arms' files of scores."""
    scores = {arm: read_jsonl(study / arm / scoring.PER_EXAMPLE) for arm in arms}
    resampling, primary = scoring.resampling(settings), settings["primary"]
    return {
        "comparisons": with_quality(paired_tests.compare_arms(scores, BASELINE, primary, *resampling), settings),
        "pairs": with_quality(paired_tests.compare_pairs(scores, arm_pairs(arms), primary, *resampling), settings),
        **compare_floors(study, scores, settings),
        "explored": explore(scores, settings),
        "seeds": training_seeds.compare_methods(scores, BASELINE, primary, settings["confidence"]),
        "slices": slices.compare_slices(scores, BASELINE, test_rows, primary, *resampling),
        "memorization": compare_memorization(study, arms, settings),
        "decodings": decodings.compare(study, arms, primary, resampling),
        "guardrails": guardrails(scores, settings),
        "emergencies": count_emergencies(test_rows),
        "faults": ablations.compare(study, scores, resampling),
        "single_cases": ablations.single_cases(scores, primary, resampling),
    }


def with_quality(rows: list[Difference], settings: ScoreSettings) -> list[Difference]:
    """The rows, each with its margin and what its interval says of non-inferiority, where a margin was declared."""
    for row in rows:
        margin, way = settings["margins"].get(row["metric"]), direction(row["metric"])
        if margin and way:
            row["margin"], row["quality"] = margin, quality(row["low"], row["high"], margin, way)
    return rows


def arm_pairs(arms: Iterable[str]) -> list[tuple[str, str]]:
    """(arm, other) of arms that are compared with each other: trained ones, and each with every prompted baseline.

    Repetitions with another seed are left to the table of seeds, arms with faults to theirs.
    """
    known = [arm for arm in arms if method_of(arm) == arm]
    if ablations.SOUND in known:
        return []
    prompted = [arm for arm in known if arm.startswith(BASELINE) and arm != BASELINE]
    trained = sorted(arm for arm in known if not arm.startswith(BASELINE))
    return [*combinations(trained, 2), *((other, arm) for other in prompted for arm in trained)]


def compare_floors(study: Path, scores: Scored, settings: ScoreSettings) -> FloorComparisons:
    """Every arm minus every naive baseline on the declared metrics, and minus retrieval from the whole corpus."""
    known, resampling = scoring.read_floors(study), scoring.resampling(settings)
    apart = (naive_baselines.RETRIEVAL, scoring.RANDOM_PAIRS, "doctors")
    pairs = [(name, arm) for arm in scores for name in known if name not in apart]
    retrieval = []
    for arm, rows in scores.items():
        common = paired_tests.common_rows(known.get(naive_baselines.RETRIEVAL, []), rows)
        retrieval += _differences(common, settings["primary"], arm, settings) if common else []
    tested = paired_tests.compare_pairs({**scores, **known}, pairs, settings["primary"], *resampling)
    return {"floor_comparisons": tested, "retrieval_comparisons": retrieval}


def explore(scores: Scored, settings: ScoreSettings) -> list[Explored]:
    """Differences in every metric that was not declared. They have no p-values, so none can be picked as proof."""
    found: list[Explored] = []
    for arm in [arm for arm in scores if arm != BASELINE and scores.get(BASELINE)]:
        pairs = paired_tests.common_rows(scores[BASELINE], scores[arm])
        names = [name for name in pairs[0][1] if name not in ("id", "group", "reference_words", *settings["primary"])]
        found += _differences(pairs, names, arm, settings)
        found += compare_lengths(pairs, arm, settings)
    return found


def compare_lengths(pairs: Sequence[tuple[ScoreRow, ScoreRow]], arm: str, settings: ScoreSettings) -> list[Explored]:
    """The difference in `length_ratio_of_means`: both arms answered the same rows, so it is one ratio of sums."""
    if "reference_words" not in pairs[0][1]:
        return []
    more = [after["words"] - before["words"] for before, after in pairs]
    references, groups = [row["reference_words"] for _, row in pairs], [row["group"] for _, row in pairs]
    ratio = ratio_interval(more, references, groups, scoring.resampling(settings))
    found: Explored = {
        "metric": "length_ratio_of_means",
        "arm": arm,
        "n": len(pairs),
        "difference": ratio["mean"],
        "low": ratio["low"],
        "high": ratio["high"],
    }
    return [found | {"no_interval": ratio["no_interval"]} if "no_interval" in ratio else found]


def compare_memorization(study: Path, arms: Sequence[str], settings: ScoreSettings) -> list[Explored]:
    """How much further than the baseline each arm continues the same training answers."""
    files = {arm: study / arm / "memorization.jsonl" for arm in arms}
    rows = {arm: read_jsonl(path) for arm, path in files.items() if path.is_file()}
    found: list[Explored] = []
    for arm in [arm for arm in rows if arm != BASELINE and BASELINE in rows]:
        if pairs := paired_tests.common_rows(rows[BASELINE], rows[arm]):
            found += _differences(pairs, ["recited", "matched", "agreement"], arm, settings)
    return found


def guardrails(scores: Scored, settings: ScoreSettings) -> list[Json]:
    """The guardrail on red-flag recall of every arm: `metric`, `arm` and the keys of safety.Guardrail."""
    found = []
    for arm in [arm for arm in scores if arm != BASELINE and BASELINE in scores]:
        result = safety.guardrail(scores[BASELINE], scores[arm], settings["safety_margin"], settings["confidence"])
        if result:
            found.append({"metric": "red_flag_recall", "arm": arm, **result})
    return found


def count_emergencies(test_rows: Sequence[Question]) -> Emergencies:
    """How many test messages count as emergencies, by the patient's words and by what the reference doctor did."""
    flags = [red_flags.red_flags(row["messages"]) for row in test_rows]
    advised = [safety.urgent_advice(row["reference"]) for row in test_rows]
    return {
        "n": len(test_rows),
        "emergencies": sum(bool(found) or urgent for found, urgent in zip(flags, advised, strict=True)),
        "by_rule": sum(map(bool, flags)),
        "by_doctor": sum(advised),
    }


def _differences(
    pairs: Sequence[tuple[ScoreRow, ScoreRow]], names: Sequence[str], arm: str, settings: ScoreSettings
) -> list[Explored]:
    effects = paired_tests.compare_rows(pairs, names, *scoring.resampling(settings))
    return [{"metric": name, "arm": arm, **paired_tests.untested(effect)} for name, effect in effects.items()]
