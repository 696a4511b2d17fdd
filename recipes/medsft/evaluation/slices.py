"""Differences within slices of the test rows: by source, by length of the prompt, by medical specialty.

They are explored, not tested: they have intervals and no p-values.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from medsft.evaluation.statistics.paired_tests import common_rows, compare_rows, untested
from medsft.records import Question, ScoreRow
from medsft.result_records import SliceDifference

LEAST_ROWS = 10  # fewer show nothing
# Beginnings of words of each specialty. A message is about the one with most different words in it.
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
    """The specialty with most different words in the message, the first of several; 'other' where none has any."""
    text = message.lower()
    counts = {name: len(set(pattern.findall(text))) for name, pattern in _PATTERNS.items()}
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] else "other"


def slices(rows: Sequence[Question]) -> dict[str, dict[str, set[str | int]]]:
    """Ids of the test rows of each slice: {by: {slice: ids}}. Lengths are thirds of the rows by the prompt's words.

    Specialties are guessed from keywords; on the labelled sample half of the guesses are right.
    """
    lengths = [len(row["prompt"].split()) for row in rows]
    first, second = np.quantile(lengths, [1 / 3, 2 / 3])
    labels = {
        "source": [str(row["source"]) for row in rows],
        "length": ["short" if length <= first else "long" if length > second else "middling" for length in lengths],
        "specialty": [specialty(row["prompt"]) for row in rows],
    }
    found: dict[str, dict[str, set[str | int]]] = {}
    for by, names in labels.items():
        parts: dict[str, set[str | int]] = {}
        for row, name in zip(rows, names, strict=True):
            parts.setdefault(name, set()).add(row["id"])
        found[by] = {name: parts[name] for name in sorted(parts, key=lambda n: -len(parts[n]))}
    return found


def compare_slices(
    arms: Mapping[str, list[ScoreRow]],
    baseline: str,
    rows: Sequence[Question],
    metrics: Sequence[str],
    resamples: int,
    confidence: float,
    seed: int,
) -> list[SliceDifference]:
    """Each arm minus the baseline within each slice of ten rows or more.

    A slice that holds every row is left out, because it repeats the whole comparison.
    """
    found: list[SliceDifference] = []
    for arm in [arm for arm in arms if arms.get(baseline) and arm != baseline]:
        pairs = common_rows(arms[baseline], arms[arm])
        for by, parts in slices(rows).items():
            for name, ids in parts.items():
                some = [pair for pair in pairs if pair[1]["id"] in ids]
                if not LEAST_ROWS <= len(some) < len(pairs):
                    continue
                for metric, effect in compare_rows(some, metrics, resamples, confidence, seed).items():
                    found.append({"by": by, "slice": name, "arm": arm, "metric": metric, **untested(effect)})
    return found
