"""Identities that an answer invents: names, links, addresses, numbers and platforms that the conversation lacks.

They are found by the rules that de-identify the training data, and by a greeting ("Hi Maria,"). A name is known where
its last word stands in the prompt, anything else where its letters and digits do. So another doctor's name and another
telephone number are invented although the patient wrote a name and a number.
"""

import re
from collections.abc import Sequence

from medsft.data.rules.deidentification import NAMES, changes
from medsft.data.rules.identifiers.not_names import is_no_name
from medsft.data.rules.identifiers.person_names import CAPITALISED
from medsft.data.rules.identifiers.placeholders import PLACEHOLDER, replaced
from medsft.evaluation.metrics.conversation import Prompt, turns

GREETED = re.compile(rf"(?:\A|[.!?\n]\s*)(?i:hello|hi+|hey|dear)[ ,]+({CAPITALISED})(?=\s*[,.!:\n])")
# words that a greeting may be followed by, beside those that are no names anywhere
NOT_GREETED = {"user", "friend", "miss", "mrs", "ma'am", "mam", "questioner", "member", "client", "there", "everyone"}


def invented(answer: str, prompt: Prompt = "") -> list[str]:
    """The identities of the answer that no turn of the prompt has, as they are written."""
    asked = "\n".join(turn["content"] for turn in turns(prompt))
    return [value for kind, value in identities(answer) if not _known(kind, value, asked)]


def identities(answer: str) -> list[tuple[str, str]]:
    """(kind, text) of every identity in a doctor's answer. Placeholders such as [DOCTOR] are none."""
    found = [
        (kind, change.before[start:end])
        for change in changes(answer, "assistant", skip=("sign_off",))
        for start, end, kind in replaced(change.before, change.after)
    ]
    found += [("PATIENT", match[1]) for match in GREETED.finditer(answer) if not _is_word(match[1])]
    return [(kind, value) for kind, value in found if not PLACEHOLDER.fullmatch(value)]


def _is_word(name: str) -> bool:
    return name.lower() in NOT_GREETED or is_no_name(name.lower())


def _known(kind: str, value: str, asked: str) -> bool:
    if kind in NAMES:
        words: Sequence[str] = re.findall(r"[^\W\d_]{2,}(?:['’-][^\W\d_]+)*", value)
        if value in asked or not words:
            return True
        return re.search(rf"(?<!\w){re.escape(words[-1])}(?!\w)", asked, re.IGNORECASE) is not None
    return _characters(value) in _characters(asked)


def _characters(text: str) -> str:
    return "".join(filter(str.isalnum, text)).casefold()
