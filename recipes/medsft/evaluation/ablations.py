"""What each fault of the source study is worth: arms that have one fault each, held against the arm that has none.

`make paper` trains them on the same rows, in the same order, for the same steps. Its arms are `sound`, `fault_NAME` for
each fault alone, and `paper`, which has all of them, as the study had.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medsft.evaluation.statistics import paired_tests
from medsft.files import read_json

Rows = list[dict[str, Any]]
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


def compare(study: Path, scores: dict[str, Rows], resampling: tuple[int, float, int]) -> Rows:
    """One row an arm with faults: `metrics` {name: difference from the sound arm, low, high, n} and `speed`.

    Empty where the study has no sound arm. `scores` are scores_per_example.jsonl by arm; a metric that an arm lacks is
    left out. Intervals are over groups of test dialogues, that of the speed over training steps.
    """
    found = []
    for arm in [arm for arm in FAULTS if arm in scores and SOUND in scores]:
        pairs = paired_tests.common_rows(scores[SOUND], scores[arm])
        before, after = ({m: [pair[side].get(m) for pair in pairs] for m in METRICS} for side in (0, 1))
        rows = paired_tests.paired_comparisons(before, after, [row["group"] for _, row in pairs], *resampling)
        metrics = {m: {key: row[key] for key in ("difference", "low", "high", "n")} for m, row in rows.items()}
        sound, faulty = (read_json(study / name / "train.json").get("step_seconds", []) for name in (SOUND, arm))
        speed = slowdown(sound, faulty, *resampling)
        found.append({"arm": arm, "fault": FAULTS[arm], "metrics": metrics, "speed": speed})
    return found


def slowdown(
    sound: list[float], faulty: list[float], resamples: int, confidence: float, seed: int
) -> dict[str, float] | None:
    """How many times as long a step takes: ratio of sums over the same steps, percentile bootstrap over steps.

    None where the two have not the same number of steps, or no more than the warm-up.
    """
    if len(sound) != len(faulty) or len(sound) <= WARM_UP:
        return None
    both = np.array([sound[WARM_UP:], faulty[WARM_UP:]])
    drawn = np.random.default_rng(seed).integers(0, both.shape[1], size=(resamples, both.shape[1]))
    ratios = both[1][drawn].sum(axis=1) / both[0][drawn].sum(axis=1)
    low, high = np.quantile(ratios, [(1 - confidence) / 2, (1 + confidence) / 2])
    ratio = float(both[1].sum() / both[0].sum())
    return {"ratio": ratio, "low": float(low), "high": float(high), "steps": both.shape[1]}


def single_cases(scores: Mapping[str, Rows], primary: list[str], resampling: tuple[int, float, int]) -> Rows:
    """What an evaluation on one dialogue could have said of the sound and the faulty arm against the baseline.

    `difference` with `low` and `high` is that of all `n` dialogues; `case_low` and `case_high` hold 95 % (the level
    asked for) of the differences that single dialogues show; `contrary` is the share of dialogues that show none, or
    one in the other direction.
    """
    found: Rows = []
    for arm in [arm for arm in (SOUND, "paper") if arm in scores and BASELINE in scores and SOUND in scores]:
        pairs = paired_tests.common_rows(scores[BASELINE], scores[arm])
        for metric in primary:
            cases = np.array([after[metric] - before[metric] for before, after in pairs])
            groups = [row["group"] for _, row in pairs]
            mean, low, high = paired_tests.bootstrap_interval(cases.tolist(), groups, *resampling)
            tail = (1 - resampling[1]) / 2
            case_low, case_high = np.quantile(cases, [tail, 1 - tail])
            row = {"arm": arm, "metric": metric, "n": len(cases), "difference": mean, "low": low, "high": high}
            row |= {"case_low": float(case_low), "case_high": float(case_high)}
            found.append(row | {"contrary": float(np.mean(cases * np.sign(mean) <= 0))})
    return found
