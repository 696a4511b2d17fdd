"""Rules that replace names: of doctors after a title or under an answer, and of patients who introduce themselves."""

import re
from collections import Counter

from medsft.data.rules.placeholders import NOT_NAMES, replace_after
from medsft.data.rules.signatures import DEGREE

CAPITALISED = r"[A-ZÀ-ÖØ-Þ](?:['’][A-Z])?[a-zß-ÿ]+(?:[A-Z][a-z]+)?(?:[-'’][A-Z][a-z]+)*"
NOT_NEXT = r"(?!(?:Would|Hope|Please|Kindly|Thanks|Regards|Take|Wish|For|You|He|She|They|We|This|The|It|If|In)\b)"
NEXT_NAME = rf"[ ]{NOT_NEXT}(?:(?:van|von|de|del|bin|al|ur)[ ])?(?:[A-Z]\.|{CAPITALISED})"
NAME = rf"(?:[A-Z]\.[ ]?)*{CAPITALISED}(?:{NEXT_NAME}){{0,3}}"
ARTICLE = r"(?:\b(?:a|an|any|another|the|my|your|his|her|our|their|this|that|good|other|with|to)[ ])"
GLUED = r"(?<=[a-z])(?:Dr|dr(?=\.[A-Z]))"  # 'RegardsDr. X', 'take caredr.X', as crawled
TITLED = re.compile(rf"({ARTICLE}?)(?:(?:\b[Dd]r|{GLUED}|\bDR|\bProf)\b\.?|\b([Dd]octor|Professor)\b)[ ]?({NAME})")
FULL_NAME = rf"{CAPITALISED}(?:[ ](?:[A-Z]\.[ ]?)?{CAPITALISED}){{1,2}}"
SIGNED = re.compile(
    rf"(\b(?i:regards|sincerely|signed|best wishes|yours truly|faithfully)[,.: \n-]+)"
    rf"({FULL_NAME}|(?<=\n){CAPITALISED})(?=\W*(?:\Z|\n|{DEGREE}))"
)
PARTED = re.compile(  # the last words of a message
    rf"(\b(?i:thanks|thank you|thx|cheers|regards|sincerely|yours truly|best wishes)[,.! \n-]+)"
    rf"({FULL_NAME}|(?<=\n){CAPITALISED})(?=\W*\Z)"
)
DEGREED = re.compile(rf"((?:\A|[\n.!?-])\s{{0,3}})({FULL_NAME})(?=,\s?{DEGREE}[^\n]{{0,60}}\Z)")
SIGNED_LOWER = re.compile(
    r"((?:\A|[.!?,…\n]|(?i:regards|thanks|take care))\s{0,3})[Dd]r\.? ?[a-z]{3,}(?: [a-z]{3,})?(?=[\s.]*\Z)"
)
NAMED_SELF = re.compile(
    rf"(\b(?:[Mm]y|[Hh]is|[Hh]er)(?: \w+['’]s)? name(?: is|['’]s)[ .]?)"
    rf"({NAME}|[a-z]+(?: [a-z]{{3,}}(?=[,.\n]| and\b|\Z))?)"
)
PRESENTED_SELF = re.compile(
    rf"(\bI am |\bI['’]m |\b[Tt]his is )({CAPITALISED} {CAPITALISED})(?=[,.]| from | writing| and I |, \d)"
)
MYSELF = re.compile(rf"((?:\A|[.!?,\n])\s{{0,3}}[Mm]yself )({NAME})")
NAME_FIELD = re.compile(rf"(\b[Nn]ame\s?[:=-]\s?)({NAME})")
HERE = re.compile(rf"((?:\A|[.!?,]\s{{0,3}}))({CAPITALISED} {CAPITALISED})(?= here\b)")


def doctor_names(text: str, role: str, counts: Counter[str]) -> str:
    return TITLED.sub(lambda match: _titled(match, counts), text)


def signing_names(text: str, role: str, counts: Counter[str]) -> str:
    """The name under a doctor's answer."""
    if role == "assistant":
        for pattern in (SIGNED, PARTED, DEGREED, SIGNED_LOWER):
            text = replace_after(pattern, "DOCTOR", text, counts)
    return text


def introductions(text: str, role: str, counts: Counter[str]) -> str:
    """The name with which patients and doctors introduce themselves, or patients sign a message."""
    if role == "assistant":
        return replace_after(NAMED_SELF, "DOCTOR", text, counts, look=1)
    for pattern, look in ((NAMED_SELF, 1), (PRESENTED_SELF, 2), (MYSELF, 2), (NAME_FIELD, 1), (HERE, 2), (PARTED, 2)):
        text = replace_after(pattern, "PATIENT", text, counts, look)
    return text


def _titled(match: re.Match[str], counts: Counter[str]) -> str:
    article, spelt_out, name = match.groups()
    first = re.split(r"[ -]", name)[0].lower()
    if first in NOT_NAMES or (article and spelt_out == "doctor"):  # 'ask your doctor Most people ...'
        return match[0]
    counts["DOCTOR"] += 1
    return f"{article}[DOCTOR]"
