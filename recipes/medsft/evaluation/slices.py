"""Parts of the test set: where the dialogue comes from, how long the patient's message is, which specialty it is about.

Differences within slices are explored, not tested: they carry intervals and no p-value.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from medsft.evaluation.statistics.paired_tests import Rows, common_rows, paired_comparisons

LEAST_ROWS = 10  # fewer show nothing
# Words of a specialty; the one with most different words in the message names it, the first among equals.
SPECIALTIES = {
    "cardiology": "heart chest palpitation hypertension angina cholesterol statin ecg arrhythmia fibrillation",
    "respiratory": "cough asthma inhaler breath lung wheez copd phlegm pneumonia sputum bronchitis apnoea snore",
    "gastroenterology": "stomach abdom bowel stool diarrh constipat reflux acid "
    "liver hepat nausea vomit colon crohn gallbladder swallow",
    "neurology": "headache migraine seizure stroke dizz numb tingl tremor parkinson memory epilep vertigo nerve",
    "psychiatry": "anxi depress panic sad suicid bipolar stress mood antidepress sertraline therap adhd sleep insomnia",
    "dermatology": "skin rash itch acne mole eczema psoriasis pimple hives wart nail blister",
    "musculoskeletal": "knee back shoulder joint arthritis fracture ankle hip muscle "
    "spine tendon sprain wrist rheumat gout",
    "women's health": "pregnan menstru ovar uter vagin breast menopaus contracept pill midwife endometri pcos",
    "urology and kidney": "urin kidney bladder prostate testic penis erect dialysis creatinine catheter pee uti",
    "endocrinology": "diabet sugar thyroid insulin hormone glucose hba1c metformin tsh weight cortisol",
    "eye, ear, nose, throat": "eye vision ear hearing nose throat sinus tonsil tinnitus hoarse glaucoma cataract voice",
    "paediatrics": "baby child son daughter toddler newborn infant kid months-old nappy nursery",
    "infection and travel": "covid fever virus infect vaccin hiv antibiotic malaria "
    "travel flu tested hepatitis tuberculosis std",
    "dentistry": "tooth teeth gum dentist wisdom filling braces jaw",
    "oncology and blood": "cancer tumour tumor chemo lymph biopsy anaemia anemia "
    "platelet leukaemia lymphoma metasta ferritin",
}
_PATTERNS = {name: re.compile(rf"\b({'|'.join(map(re.escape, words.split()))})") for name, words in SPECIALTIES.items()}


def specialty(message: str) -> str:
    """The specialty whose words a message holds most of; 'other' where it holds none."""
    text = message.lower()
    counts = {name: len(set(pattern.findall(text))) for name, pattern in _PATTERNS.items()}
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] else "other"


def slices(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, set[Any]]]:
    """Ids of the test rows of each slice: {by: {slice: ids}}. Lengths are thirds of the rows by the patient's words.

    Specialties are guessed from keywords; half of them are the right one on the labelled sample.
    """
    lengths = [len(row["prompt"].split()) for row in rows]
    first, second = np.quantile(lengths, [1 / 3, 2 / 3])
    labels = {
        "source": [str(row["source"]) for row in rows],
        "length": ["short" if length <= first else "long" if length > second else "middling" for length in lengths],
        "specialty": [specialty(row["prompt"]) for row in rows],
    }
    found: dict[str, dict[str, set[Any]]] = {}
    for by, names in labels.items():
        parts: dict[str, set[Any]] = {}
        for row, name in zip(rows, names, strict=True):
            parts.setdefault(name, set()).add(row["id"])
        found[by] = {name: parts[name] for name in sorted(parts, key=lambda n: -len(parts[n]))}
    return found


def compare_slices(
    arms: dict[str, Rows], baseline: str, rows: Sequence[dict[str, Any]], metrics: Sequence[str], *resampling: Any
) -> Rows:
    """Each arm minus the baseline within each slice of ten rows or more; `resampling` is (resamples, confidence, seed).

    A slice that holds every row is left out: the whole comparison says it already.
    """
    found: Rows = []
    for arm in [arm for arm in arms if arms.get(baseline) and arm != baseline]:
        pairs = common_rows(arms[baseline], arms[arm])
        for by, parts in slices(rows).items():
            for name, ids in parts.items():
                some = [pair for pair in pairs if pair[1]["id"] in ids]
                if LEAST_ROWS <= len(some) < len(pairs):
                    found += [
                        {"by": by, "slice": name, "arm": arm, **row} for row in _compare(some, metrics, resampling)
                    ]
    return found


def _compare(pairs: list[tuple[dict[str, Any], dict[str, Any]]], metrics: Sequence[str], resampling: Any) -> Rows:
    before, after = ({m: [pair[side].get(m) for pair in pairs] for m in metrics} for side in (0, 1))
    result = paired_comparisons(before, after, [row["group"] for _, row in pairs], *resampling)
    kept = ("difference", "low", "high", "n", "effect_size")
    return [{"metric": metric, **{name: value[name] for name in kept}} for metric, value in result.items()]
