"""De-identification by named, counted rules: typed placeholders such as [PHONE] in place of identifiers.

The last rule then removes a doctor's whole signature: a model that learnt '[DOCTOR]' as the end of an answer would end
its own answers so. A name that was found once is replaced in all turns of its dialogue. Rules find no other names in
running text; that takes a trained recogniser (presidio.py).

To add a rule, write a function (text, role, counts) -> text in the folder identifiers,
and add it to RULES and to LEVELS.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection

from medsft.data.reading.dialogue import arrange
from medsft.data.rules.cleaning import Change
from medsft.data.rules.courtesy import GREETING
from medsft.data.rules.identifiers import contacts, dates_and_places, names_by_context, person_names
from medsft.data.rules.identifiers.not_names import is_no_name
from medsft.data.rules.identifiers.placeholders import replaced
from medsft.data.rules.signatures import drop_signatures
from medsft.records import Turn

RULES: dict[str, Callable[[str, str, Counter[str]], str]] = {
    "email": contacts.emails,
    "url": contacts.urls,
    "ip_address": contacts.ip_addresses,
    "birth_date": dates_and_places.birth_dates,
    "record_number": contacts.record_numbers,
    "device_number": contacts.device_numbers,
    "phone": contacts.phones,
    "age_over_89": dates_and_places.great_ages,
    "address": dates_and_places.addresses,
    "doctor_name": person_names.doctor_names,
    "civil_name": person_names.civil_names,
    "signature": person_names.signing_names,
    "patient_name": person_names.introductions,
    "relative": person_names.relatives,
    "named_person": names_by_context.named_persons,
    "date": dates_and_places.dates,
    "place": dates_and_places.places,
    "platform": contacts.platform_names,
    "sign_off": drop_signatures,
}
STANDARD, SAFE_HARBOR = "standard", "safe_harbor"
ONLY_SAFE_HARBOR = {"date", "place", "device_number"}
NOT_BASIC = ONLY_SAFE_HARBOR | {
    "ip_address",
    "birth_date",
    "age_over_89",
    "address",
    "civil_name",
    "relative",
    "named_person",
}
LEVELS = {"basic": {*RULES} - NOT_BASIC, STANDARD: {*RULES} - ONLY_SAFE_HARBOR, SAFE_HARBOR: {*RULES}}
ENGLISH_NAMES = ("civil_name", "signature", "patient_name", "relative", "named_person")
NAME_RULES = (*ENGLISH_NAMES, "birth_date", "age_over_89", "place")  # they know English words only
NAMES = ("DOCTOR", "PATIENT", "PERSON")
ASKED_BIRTH = re.compile(r"\b(?:date of birth|birth ?day|d\.?o\.?b\b|when were you born)", re.IGNORECASE)


def deidentify(text: str, role: str, skip: Collection[str] = (), level: str = STANDARD) -> tuple[str, Counter[str]]:
    """The text of one turn with placeholders, and how many of each kind were put in. Rules in `skip` are left out."""
    counts: Counter[str] = Counter()
    made = changes(text, role, skip, level, counts)
    return (made[-1].after if made else text), +counts


def deidentify_turns(
    turns: list[Turn], skip: Collection[str] = (), level: str = STANDARD
) -> tuple[list[Turn], Counter[str], list[str]]:
    """All turns of a dialogue, the placeholders by kind, and the names of the rules that changed something.

    No turns where nothing but a signature was left of the last answer.
    """
    counts: Counter[str] = Counter()
    fired: set[str] = set()
    names: dict[str, str] = {}
    kept: list[Turn] = []
    asked = ""
    for turn in turns:
        text = turn["content"]
        if turn["role"] == "user" and asked:
            text = answered(text, asked, skip, level, counts, fired)
        made = changes(text, turn["role"], [*skip, "sign_off"], level, counts)
        text = made[-1].after if made else text
        names |= found_names(turn["content"], text)
        fired |= {change.rule for change in made}
        kept.append({**turn, "content": text})
        asked = turn["content"] if turn["role"] == "assistant" else ""
    for turn in kept:
        turn["content"] = everywhere(turn["content"], names, counts)
        if "sign_off" not in skip:
            signed = drop_signatures(turn["content"], turn["role"], counts)
            if signed != turn["content"]:
                fired.add("sign_off")
                turn["content"] = "" if GREETING.fullmatch(signed) else signed
    whole = arrange([turn for turn in kept if turn["content"]])[0] if kept[-1]["content"] else []
    return whole, +counts, sorted(fired)


def answered(text: str, asked: str, skip: Collection[str], level: str, counts: Counter[str], fired: set[str]) -> str:
    """A patient's turn without the name and the birth date that the doctor `asked` for in the turn before."""
    before = text
    if "birth_date" in LEVELS[level] and "birth_date" not in skip and ASKED_BIRTH.search(asked):
        text = dates_and_places.answered_birth_date(text, counts)
        fired |= {"birth_date"} if text != before else set()
    before = text
    if "patient_name" not in skip and person_names.ASKED_NAME.search(asked):
        text = person_names.answered_name(text, counts)
        fired |= {"patient_name"} if text != before else set()
    return text


def found_names(before: str, after: str) -> dict[str, str]:
    """{word: kind} of the names for which `after` has placeholders, words of three letters or more."""
    found = {}
    for start, end, kind in replaced(before, after) if before != after else []:
        if kind in NAMES:
            for word in re.findall(r"[^\W\d_][\w'’-]{2,}", before[start:end]):
                if word[0].isupper() and not is_no_name(word.lower()) and word not in ("Doctor", "Prof", "Professor"):
                    found[word] = kind
    return found


def everywhere(text: str, names: dict[str, str], counts: Counter[str]) -> str:
    """The text with placeholders for the names of its dialogue, whole words with a capital letter."""
    for word, kind in names.items():
        if word in text:
            text, number = re.subn(
                rf"(?<![\w\[]){re.escape(word)}(?![\w\]])(?!['’]s (?:disease|syndrome))", f"[{kind}]", text
            )
            counts[kind] += number
    return text


def changes(
    text: str, role: str, skip: Collection[str] = (), level: str = STANDARD, counts: Counter[str] | None = None
) -> list[Change]:
    """What each rule that changed the text of a turn did to it, in order. Adds the placeholders to `counts`."""
    counts = Counter() if counts is None else counts
    made = []
    for name, rule in RULES.items():
        changed = text if name in skip or name not in LEVELS[level] else rule(text, role, counts)
        if changed != text:
            made.append(Change(name, text, changed))
        text = changed
    return made
