"""Red flags in what a patient wrote, by the documented list of rules in red_flags.yaml."""

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import yaml

from medsft.evaluation.metrics.conversation import Prompt, patient_text

LIST = Path(__file__).parent / "red_flags.yaml"
WORDS = {
    "<near>": r"[^\n]{0,70}?",  # one symptom may be described in two short sentences
    "<severe>": r"(?:severe|sudden|suddenly|worst|unbearable|excruciating|crushing|terrible|agoni[sz]ing|intense)",
}


@dataclass(frozen=True)
class Rule:
    """A `pattern` that signals an `emergency`."""

    name: str
    emergency: str
    pattern: re.Pattern[str]


@lru_cache(maxsize=1)
def rules() -> tuple[Rule, ...]:
    """The rules in the order of the list."""
    entries = yaml.safe_load(LIST.read_text(encoding="utf-8"))
    return tuple(Rule(name, entry["emergency"], _compiled(entry["patterns"])) for name, entry in entries.items())


def _compiled(patterns: list[str]) -> re.Pattern[str]:
    text = "|".join(patterns)
    for word, meaning in WORDS.items():
        text = text.replace(word, meaning)
    return re.compile(text, re.IGNORECASE)


DENIED = re.compile(
    r"\b(?:no|not|without|den(?:y|ies|ied)|never|nor|neither|(?:is|are|do|does|have|has|was)n't|free of)\b"
    r"(?:(?!\bbut\b)[^.!?;\n]){0,25}\Z",
    re.IGNORECASE,
)


def red_flags(prompt: Prompt) -> list[str]:
    """Names of the rules that match what the patient wrote, in the order of the list; [] for none.

    Of a conversation all turns of the patient count, and none of the doctor.
    """
    text = patient_text(prompt).replace("’", "'")
    return [r.name for r in rules() if any(not _denied(text, match) for match in r.pattern.finditer(text))]


def _denied(text: str, match: re.Match[str]) -> bool:
    return bool(DENIED.search(text[max(0, match.start() - 40) : match.start()]))
