"""What the name of each arm means, in plain words, for a reader who sees it for the first time."""

import re
from collections.abc import Iterable, Mapping

from medsft.evaluation.ablations import FAULTS, SOUND
from medsft.text import method_of

WORDS = {
    "baseline": "the untrained model",
    "baseline_prompted": "the untrained model with instructions",
    "baseline_fewshot": "the same with examples",
    "baseline_nf4": "the untrained model in 4 bits",
    "lora": "small added weights trained",
    "qlora": "the same on a model in 4 bits",
    "full": "every weight trained",
    SOUND: "trained without the source study's faults",
    "paper": "trained as in the source study",
}
STORED = re.compile(r"(.+)_(?:q(\d)|f(16|32))\Z")  # an arm exported for llama.cpp: lora_q8, lora_f16
SELF_CONTAINED = {"the same with examples": "the untrained model with examples"}
SELF_CONTAINED |= {"the same on a model in 4 bits": "small added weights trained on a model in 4 bits"}


def words(arm: str) -> str:
    """'every weight trained' for full; '' for a name that only its author knows."""
    if arm in WORDS:
        return WORDS[arm]
    if arm in FAULTS:
        return f"the fault alone: {FAULTS[arm]}"
    if stored := STORED.match(arm):
        return f"{stored[1]} stored in {stored[2] or stored[3]} bits"
    method = method_of(arm)
    return f"{method} with another seed" if method != arm else ""


def explained(lines: Mapping[str, str], arms: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """The lines with each arm's words after its first mention, and 'name: words' of the arms that no line names.

    Another seed of a method is not explained by itself.
    """
    found, left = dict(lines), []
    for arm in arms:
        meaning, name = words(arm), re.compile(rf"(?<![\w-]){re.escape(arm)}(?![\w-])")
        where = next((key for key, text in found.items() if name.search(text)), None)
        if not meaning or (where is None and method_of(arm) != arm):
            continue
        if where is None:
            left.append(f"{arm}: {SELF_CONTAINED.get(meaning, meaning)}")
        else:
            found[where] = name.sub(lambda match, said=meaning: f"{match[0]} ({said})", found[where], count=1)  # type: ignore[misc]
    return found, left
