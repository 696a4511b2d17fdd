"""Effect of each fault of the source study: arms with one fault each, compared with the arm that has none.

`make paper` trains them on the same rows, in the same order, for the same steps. Its arms are `sound`, `fault_NAME` for
each fault alone, and `paper`, which has all of them, as the study had.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np

from medsft.evaluation.statistics.intervals import bootstrap_interval
from medsft.evaluation.statistics.paired_tests import common_rows, compare_rows
from medsft.files import read_json
from medsft.records import ScoreRow
from medsft.result_records import AblationRow, MetricChange, Slowdown

SOUND, BASELINE = "sound", "baseline"
FAULTS = {  # arm: the fault in words
    "fault_end_of_turn": "end of turn carries no loss",
    "fault_double_bos": "two BOS",
    "fault_truncation": "answers are cut",
    "fault_everything": "loss on everything",
    "fault_padding": "every row padded to 512",
    "paper": "all five together, as in the source study",
}
METRICS = ("nll", "end_of_turn", "rouge1", "rouge2", "rougeL", "bertscore_f1")
WARM_UP = 1  # steps left out of the speed: caches are cold


class SingleCases(TypedDict):
    """What one dialogue would have shown, where all `n` show `difference`.

    `case_low` and `case_high` hold 95 % (the level asked for) of the differences of single dialogues. `contrary`: share
    of dialogues that show no difference or one in the other direction.
    """

    arm: str
    metric: str
    n: int
    difference: float
    low: float | None
    high: float | None
    case_low: float
    case_high: float
    contrary: float


def compare(study: Path, scores: Mapping[str, list[ScoreRow]], resampling: tuple[int, float, int]) -> list[AblationRow]:
    """One row for each arm with faults; empty where the study has no sound arm.

    `scores` are scores_per_example.jsonl by arm. A metric that an arm lacks is left out. Intervals are over groups of
    test dialogues, that of the speed over training steps.
    """
    found: list[AblationRow] = []
    for arm in [arm for arm in FAULTS if arm in scores and SOUND in scores]:
        effects = compare_rows(common_rows(scores[SOUND], scores[arm]), METRICS, *resampling)
        metrics: dict[str, MetricChange] = {
            metric: {"difference": effect["difference"], "low": effect["low"], "high": effect["high"], "n": effect["n"]}
            for metric, effect in effects.items()
        }
        records = [study / name / "train.json" for name in (SOUND, arm)]  # a further test set's folder has none
        sound, faulty = (read_json(path).get("step_seconds", []) if path.is_file() else [] for path in records)
        speed = slowdown(sound, faulty, *resampling)
        found.append({"arm": arm, "fault": FAULTS[arm], "metrics": metrics, "speed": speed})
    return found


def slowdown(
    sound: Sequence[float], faulty: Sequence[float], resamples: int, confidence: float, seed: int
) -> Slowdown | None:
    """How many times as long a step takes: ratio of sums over the same steps, percentile bootstrap over steps.

    None where the two have different numbers of steps, or no more than the warm-up.
    """
    if len(sound) != len(faulty) or len(sound) <= WARM_UP:
        return None
    both = np.array([sound[WARM_UP:], faulty[WARM_UP:]])
    drawn = np.random.default_rng(seed).integers(0, both.shape[1], size=(resamples, both.shape[1]))
    ratios = both[1][drawn].sum(axis=1) / both[0][drawn].sum(axis=1)
    low, high = np.quantile(ratios, [(1 - confidence) / 2, (1 + confidence) / 2])
    ratio = float(both[1].sum() / both[0].sum())
    return {"ratio": ratio, "low": float(low), "high": float(high), "steps": both.shape[1]}


def single_cases(
    scores: Mapping[str, list[ScoreRow]], primary: Sequence[str], resampling: tuple[int, float, int]
) -> list[SingleCases]:
    """What an evaluation on one dialogue could have shown of the sound and the faulty arm against the baseline."""
    found: list[SingleCases] = []
    for arm in [arm for arm in (SOUND, "paper") if arm in scores and BASELINE in scores and SOUND in scores]:
        pairs = common_rows(scores[BASELINE], scores[arm])
        for metric in primary:
            both = [(one, two) for one, two in pairs if one.get(metric) is not None and two.get(metric) is not None]
            if not both:
                continue
            cases = np.array([after[metric] - before[metric] for before, after in both])
            mean, low, high = bootstrap_interval(cases.tolist(), [row["group"] for _, row in both], *resampling)
            tail = (1 - resampling[1]) / 2
            case_low, case_high = np.quantile(cases, [tail, 1 - tail])
            found.append(
                {
                    "arm": arm,
                    "metric": metric,
                    "n": len(cases),
                    "difference": mean,
                    "low": low,
                    "high": high,
                    "case_low": float(case_low),
                    "case_high": float(case_high),
                    "contrary": float(np.mean(cases * np.sign(mean) <= 0)),
                }
            )
    return found
