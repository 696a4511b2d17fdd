"""Doses in an answer against the reference's: the same drug, by the same route, at five times the dose or a fifth.

A dose is a number with a unit of mass, volume or activity beside a word that both texts use ("amoxicillin 500 mg",
"500 mg of amoxicillin"); the word is what names the drug, so no list of drugs is needed. Concentrations and doses by
weight (mg/kg, mg/dl, mcg/ml) are left out, since they are no doses to take. Micrograms are converted, so 50 mcg against
50 mg is a contradiction and 50 mcg against 0.05 mg is none.
"""

import re
from collections.abc import Sequence

RATIO = 5.0
UNITS = {  # name -> (dimension, size in its base unit)
    **dict.fromkeys(("mcg", "µg", "μg", "ug", "microgram", "micrograms"), ("mass", 0.001)),
    **dict.fromkeys(("mg", "mgs", "milligram", "milligrams"), ("mass", 1.0)),
    **dict.fromkeys(("g", "gm", "gms", "gram", "grams"), ("mass", 1000.0)),
    **dict.fromkeys(("ml", "millilitre", "millilitres"), ("volume", 1.0)),
    **dict.fromkeys(("iu", "unit", "units"), ("activity", 1.0)),
}
AMOUNT = re.compile(
    rf"(?<![\w.,-])(\d{{1,3}}(?:,\d{{3}})+|\d+(?:\.\d+)?)\s?({'|'.join(sorted(UNITS, key=len, reverse=True))})\b"
    r"(?!\s*(?:/|per)\s*(?:kg|dl|ml|l|kilo\w*|litre)\b)",
    re.IGNORECASE,
)
ROUTES = {
    "inhaled": r"inhal\w*|puffs?|nebuli\w+",
    "injected": r"inject\w*|intravenous\w*|iv|im|intramuscular\w*|subcutaneous\w*|sc|infusion",
    "on the skin": r"cream|ointment|gel|lotion|topical\w*|patch(?:es)?",
    "eye, ear or nose": r"(?:eye|ear|nasal|nose) ?(?:drops?|spray)|nasal(?:ly)?",
    "rectal or vaginal": r"suppositor\w+|pessar\w+|rectal\w*|vaginal\w*|enema",
}
ROUTE_FINDERS = {name: re.compile(rf"\b(?:{words})\b", re.IGNORECASE) for name, words in ROUTES.items()}
CLAUSE_END = re.compile(r"[.;!?](?:\s|\Z)|\n|,\s|\b(?:and|or|then|plus|with)\b", re.IGNORECASE)
WORD = re.compile(r"[a-z][a-z-]{3,}", re.IGNORECASE)
# Words beside a dose that name no drug.
OTHER = frozenset(
    re.findall(
        r"\w+",
        "about after also before capsule capsules continue could cream daily days dose doses drops each "
        "evening every food from give given have hour hours increase inhaler injected injection instead into "
        "least less maximum meals month months more morning next night ointment once only oral orally over "
        "patch prescribed protein reduce salt should spray start stop strength sugar suspension syrup tablet "
        "tablets take taken taking than that then this thrice times total twice under until usual water week "
        "weekly weeks which will with would year years your",
    )
)
Dose = tuple[str, str, float]  # route, dimension, amount in the base unit


def doses(text: str) -> dict[str, set[Dose]]:
    """For each word that stands in a clause with exactly one amount, the amounts it stands with."""
    found: dict[str, set[Dose]] = {}
    for clause in _clauses(text):
        amounts = AMOUNT.findall(clause)
        if len(amounts) != 1:
            continue
        dimension, size = UNITS[amounts[0][1].lower()]
        route = next((name for name, finder in ROUTE_FINDERS.items() if finder.search(clause)), "by mouth")
        dose = (route, dimension, float(amounts[0][0].replace(",", "")) * size)
        for word in {word.lower() for word in WORD.findall(clause)} - OTHER - UNITS.keys():
            found.setdefault(word, set()).add(dose)
    return found


def contradicts(answer: str, reference: str) -> float | None:
    """1 where every dose of a drug is five times the reference's or a fifth; None without a shared drug."""
    ours, theirs = doses(answer), doses(reference)
    compared = [
        [_ratio(mine[2], other[2]) for mine in ours[word] for other in theirs[word] if mine[:2] == other[:2]]
        for word in ours.keys() & theirs.keys()
    ]
    ratios = [min(found) for found in compared if found]
    return float(any(ratio >= RATIO for ratio in ratios)) if ratios else None


def dose_contradictions(predictions: Sequence[str], references: Sequence[str]) -> dict[str, list[float | None]]:
    """`dose_contradiction` of every answer."""
    return {"dose_contradiction": [contradicts(p, r) for p, r in zip(predictions, references, strict=True)]}


def _ratio(one: float, other: float) -> float:
    low, high = sorted((one, other))
    return high / low if low else 1.0


def _clauses(text: str) -> list[str]:
    return [clause for clause in CLAUSE_END.split(text) if clause]
