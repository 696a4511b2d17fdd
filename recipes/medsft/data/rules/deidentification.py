"""De-identification by named, counted rules: typed placeholders such as [PHONE] in place of identifiers.

The last rule then removes a doctor's whole signature: a model that learnt '[DOCTOR]' as the end of an answer would end
its own answers so. Rules find no names in running text without a title; that takes a trained recogniser (presidio.py).

To add a rule, write a function (text, role, counts) -> text in identifiers.py or person_names.py, and add it to RULES.
"""

from collections import Counter
from collections.abc import Callable, Collection

from medsft.data.reading.dialogue import arrange
from medsft.data.rules.cleaning import Change
from medsft.data.rules.courtesy import GREETING
from medsft.data.rules.identifiers import emails, phones, platform_names, record_numbers, urls
from medsft.data.rules.person_names import doctor_names, introductions, signing_names
from medsft.data.rules.signatures import drop_signatures
from medsft.records import Turn

RULES: dict[str, Callable[[str, str, Counter[str]], str]] = {
    "email": emails,
    "url": urls,
    "record_number": record_numbers,
    "phone": phones,
    "doctor_name": doctor_names,
    "signature": signing_names,
    "patient_name": introductions,
    "platform": platform_names,
    "sign_off": drop_signatures,
}


def deidentify(text: str, role: str, skip: Collection[str] = ()) -> tuple[str, Counter[str]]:
    """The text of one turn with placeholders, and how many of each kind were put in. Rules in `skip` are left out."""
    counts: Counter[str] = Counter()
    made = changes(text, role, skip, counts)
    return (made[-1].after if made else text), +counts


def deidentify_turns(turns: list[Turn], skip: Collection[str] = ()) -> tuple[list[Turn], Counter[str], list[str]]:
    """All turns of a dialogue, the placeholders by kind, and the names of the rules that changed something.

    No turns where nothing but a signature was left of the last answer.
    """
    counts: Counter[str] = Counter()
    fired: set[str] = set()
    kept: list[Turn] = []
    for turn in turns:
        made = changes(turn["content"], turn["role"], skip, counts)
        text = made[-1].after if made else turn["content"]
        names = {change.rule for change in made}
        if "sign_off" in names and GREETING.fullmatch(text):
            text = ""
        kept.append({**turn, "content": text})
        fired |= names
    whole = arrange([turn for turn in kept if turn["content"]])[0] if kept[-1]["content"] else []
    return whole, +counts, sorted(fired)


def changes(text: str, role: str, skip: Collection[str] = (), counts: Counter[str] | None = None) -> list[Change]:
    """What each rule that changed the text of a turn did to it, in order. Adds the placeholders to `counts`."""
    counts = Counter() if counts is None else counts
    made = []
    for name, rule in RULES.items():
        changed = text if name in skip else rule(text, role, counts)
        if changed != text:
            made.append(Change(name, text, changed))
        text = changed
    return made
