"""Rules that replace names: after a title, under an answer, where people introduce themselves, and of their family."""

import re
from collections import Counter

from medsft.data.rules.identifiers.not_names import is_no_name
from medsft.data.rules.identifiers.placeholders import replace_after
from medsft.data.rules.signatures import DEGREE

CAPITALISED = r"[A-ZÀ-ÖØ-Þ](?:['’][A-Z])?[a-zß-ÿ]+(?:[A-Z][a-z]+)?(?:[-'’][A-Z][a-z]+)*"
NOT_NEXT = r"(?!(?:Would|Hope|Please|Kindly|Thanks|Regards|Take|Wish|For|You|He|She|They|We|This|The|It|If|In)\b)"
NEXT_NAME = rf"[ ]{NOT_NEXT}(?:(?:van|von|de|del|bin|al|ur)[ ])?(?:[A-Z]\.|{CAPITALISED})"
NAME = rf"(?:[A-Z]\.[ ]?)*{CAPITALISED}(?:{NEXT_NAME}){{0,3}}"
FULL_NAME = rf"{CAPITALISED}(?:[ ](?:[A-Z]\.[ ]?)?{CAPITALISED}){{1,2}}"
FILLER = r"(?:[ ,.]*\b(?:uh|um|uhm|er|erm|ah|hmm|well|actually|so|yeah|yes)\b[ ,.]*){0,3}"  # of spoken consultations
ARTICLE = r"(?:\b(?:a|an|any|another|the|my|your|his|her|our|their|this|that|good|other|with|to)[ ])"
GREETED = (
    r"(?:\b(?i:hello|hi|hey|dear|respected|thanks|thank you|good (?:morning|evening|afternoon|day)|ok|yes|no)[ ,]+)"
)
GLUED = r"(?<=[a-z])(?:Dr|dr(?=\.[A-Z]))"  # 'RegardsDr. X', 'take caredr.X', as crawled
TITLED = re.compile(
    rf"({GREETED}|{ARTICLE})?(?:(?:\b[Dd]r|{GLUED}|\bDR|\bProf)\b\.?|\b([Dd]octor"
    rf"|Professor)\b)[ ]?({NAME})"
    r"(?=([,.!:;]|\W*\Z)?)"
)
MAYBE_TITLE = re.compile(r"(?:[Dd]r|DR|[Dd]octor|Prof(?:essor)?)\.? ?[A-ZÀ-Þ]")
# A dose or a form after a capitalised word makes it a medicine: 'my dad Warfarin 5 mg', 'my son Calpol syrup'; an age
# does not. So does giving, where the clause ends with it: 'I gave my daughter Augmentin', not 'gave my son Tom a bath'.
FORM = r"(?i:tablets?|tabs?|capsules?|pills?|syrup|suspension|ointment|inhaler|injections?|mgs?|mcg|µg|ml|iu|units?)\b"
DOSED = rf"(?![ ,]{{1,2}}(?:\d[\d.,/-]*|(?i:half|one|two|a))?[ ]?{FORM})"
NAME_ITSELF = rf"{NAME}(?![a-zß-ÿ]){DOSED}"
GIVEN = re.compile(
    r"\b(?:g[ia]ve|gives|given|giving|fed|feed|feeding|offer(?:ed)?|administer(?:ed)?|prescribed?|buy|bought)"
    r"\b(?:\W+|[^.!?;\n]{0,60}\b(?:and|or)\W+)\Z",
    re.IGNORECASE,
)
CLAUSE_ENDS = re.compile(
    r"\W*(?:\Z|[.,;!?\n)]|\b(?:and|or|for|when|but|because|since|if|at|every|twice|once|daily|today|yesterday|last|as"
    r"|without|with|before|after)\b)"
)
CIVIL = re.compile(rf"(\b(?:Mr|Mrs|Ms|Miss|Mx|Nurse|Sister)\b\.?[ ])({NAME_ITSELF})")
SIGNED = re.compile(
    rf"(\b(?i:regards|sincerely|signed|best wishes|yours truly|faithfully)[,.: \n-]+)"
    rf"({FULL_NAME}|(?<=\n){CAPITALISED})(?=\W*(?:\Z|\n|{DEGREE}))"
)
PARTED = re.compile(  # the last words of a message
    rf"(\b(?i:thanks|thank you|thx|cheers|regards|sincerely|yours truly|best wishes)[,.! \n-]+)"
    rf"({FULL_NAME}|(?<=\n){CAPITALISED})(?=\W*\Z)"
)
# One of these is in every text that SIGNED or PARTED matches; both take long over texts without.
PARTING_WORDS = ("regards", "sincerely", "signed", "wishes", "truly", "faithfully", "thank", "thx", "cheers")
DEGREED = re.compile(rf"((?:\A|[\n.!?-])\s{{0,3}})({FULL_NAME})(?=,\s?{DEGREE}[^\n]{{0,60}}\Z)")
SIGNED_LOWER = re.compile(  # a word of its own: 'Drink water' and 'drowsiness' begin like a title
    r"((?:\A|[.!?,…\n]|(?i:regards|thanks|take care))\s{0,3})[Dd]r(?:\. ?| )[a-z]{3,}(?: [a-z]{3,})?(?=[\s.]*\Z)"
)
RELATIVE = (
    r"(?:wife|husband|son|daughter|mother|father|mom|mum|dad|brother|sister|partner|baby|child|grandmother|grandfather"
    r"|grandma|grandpa|grandson|granddaughter|aunt|uncle|niece|nephew|cousin|girlfriend|boyfriend|fianc[eé]e?|twin)"
)
NAMED_SELF = re.compile(
    rf"(\b(?:[Mm]y|[Hh]is|[Hh]er|[Ii]ts)(?: {RELATIVE}['’]s)?(?: full| first| last| given)? name{FILLER}"
    rf"(?:[ ,]+is\b|['’]s\b)[ .,]?{FILLER}[ ]?)"
    rf"({NAME}|(?!not\b)[a-z]+(?: [a-z]{{3,}}(?=[,.\n]| and\b|\Z))?)"
)
THE_NAME = re.compile(rf"(\b[Tt]he name(?:['’]s| is) )({FULL_NAME})")
CALLED = re.compile(rf"(\bI(?:['’]m| am) (?:called|named) |\b(?:[Yy]ou can |[Pp]lease |\A)[Cc]all me )({NAME})")
PRESENTED_SELF = re.compile(
    rf"(\b(?:I am |I['’]m |[Tt]his is |[Ii]t['’]s ){FILLER}[ ]?)({FULL_NAME})"
    r"(?=[,.]| from | writing| speaking| here\b| and I\b|, \d)"
)
MYSELF = re.compile(rf"((?:\A|[.!?,\n])\s{{0,3}}[Mm]yself )({NAME})")
NAME_FIELD = re.compile(  # not 'Medicine name: Paracetamol'
    rf"((?:\A|[\n.,;:!?(]\s{{0,3}}|\b(?i:patient|full|first|last|my|client|child|baby|husband|wife)(?:['’]s)? )"
    rf"[Nn]ame\s?[:=-]\s?)({NAME})"
)
HERE = re.compile(rf"((?:\A|[.!?,]\s{{0,3}}))({CAPITALISED} {CAPITALISED})(?= here\b)")
FAMILY = re.compile(
    rf"(\b(?:[Mm]y|[Oo]ur|[Hh]is|[Hh]er) (?:[a-z]+ )?{RELATIVE}(?:,| named| called"
    rf"|,? whose name is)? )({NAME_ITSELF})"
    r"(?!['’]s (?:disease|syndrome))"
)
ASKED_NAME = re.compile(r"\byour (?:[a-z]+ ){0,2}name\b|\bwho am i (?:speaking|talking) (?:to|with)\b", re.IGNORECASE)
ANSWERED_NAME = re.compile(
    rf"((?:\A|\b)(?:[Ii]t['’]s |I am |I['’]m |[Yy]eah,? |[Yy]es,? |[Ss]ure,? |[Uu][hm]+,? )*)({FULL_NAME})"
)


def doctor_names(text: str, role: str, counts: Counter[str]) -> str:
    return TITLED.sub(lambda match: _titled(match, counts), text) if MAYBE_TITLE.search(text) else text


def civil_names(text: str, role: str, counts: Counter[str]) -> str:
    """'Mrs Osborne', 'Nurse Doyle'."""
    return replace_after(CIVIL, "PERSON", text, counts, look=1)


def signing_names(text: str, role: str, counts: Counter[str]) -> str:
    """The name under a doctor's answer."""
    if role != "assistant":
        return text
    lower = text.lower()
    parted = not text.isascii() or any(word in lower for word in PARTING_WORDS)
    patterns = [SIGNED, PARTED] if parted else []
    for pattern in (*patterns, DEGREED, SIGNED_LOWER):
        text = replace_after(pattern, "DOCTOR", text, counts)
    return text


def introductions(text: str, role: str, counts: Counter[str]) -> str:
    """The name with which patients and doctors introduce themselves, or patients sign a message."""
    kind = "PATIENT" if role == "user" else "DOCTOR"
    if "name" in text.lower():
        text = replace_after(NAMED_SELF, kind, text, counts, look=1)
    if role == "assistant":
        return text
    if "name" in text.lower():
        text = replace_after(THE_NAME, "PATIENT", text, counts, look=2)
        text = replace_after(NAME_FIELD, "PATIENT", text, counts, look=1)
    for pattern, look in ((CALLED, 1), (PRESENTED_SELF, 2), (MYSELF, 2), (HERE, 2), (PARTED, 2)):
        text = replace_after(pattern, "PATIENT", text, counts, look)
    return text


def relatives(text: str, role: str, counts: Counter[str]) -> str:
    """'my wife Helen', 'my son, Oliver,'; not the medicine in 'I gave my daughter Augmentin'."""

    def person(match: re.Match[str]) -> str:
        before, names = match[1], str(match[2]).split(" ")
        if is_no_name(re.split(r"\W", names[0].lower())[0]):
            return match[0]
        commas = before.rstrip().endswith((",", "named", "called", "is"))
        given = not commas and CLAUSE_ENDS.match(text, match.end()) and GIVEN.search(text[: match.start()])
        if given and len(names) == 1:
            return match[0]
        counts["PERSON"] += 1
        return f"{before}[PERSON]{f' {names[-1]}' if given else ''}"  # 'I gave my son [PERSON] Calpol'

    return FAMILY.sub(person, text)


def answered_name(text: str, counts: Counter[str]) -> str:
    """The first full name in a patient's answer to the doctor's question for it."""
    found = ANSWERED_NAME.search(text)
    if found is None or any(is_no_name(word.lower()) for word in found[2].split()):
        return text
    counts["PATIENT"] += 1
    return f"{text[: found.start(2)]}[PATIENT]{text[found.end(2) :]}"


def _titled(match: re.Match[str], counts: Counter[str]) -> str:
    """[DOCTOR] for the name, unless it is a word ('ask your doctor Most people', 'Hello doctor Fever since Monday')."""
    before, spelt_out, name, end = match.groups()
    before = before or ""
    article = before.strip().lower() in ARTICLES
    words = name.split(" ")
    known = next((n for n, word in enumerate(words) if is_no_name(re.split("-", word)[0].lower())), len(words))
    if known == 0 or spelt_out and (article and spelt_out == "doctor" or before and not article and end is None):
        return match[0]
    counts["DOCTOR"] += 1
    rest = " ".join(["", *words[known:]])  # 'Doctor F. Also, she ...'
    return f"{before}[DOCTOR]{'.' if rest and words[known - 1].endswith('.') else ''}{rest}"


ARTICLES = frozenset(
    [
        "a",
        "an",
        "any",
        "another",
        "the",
        "my",
        "your",
        "his",
        "her",
        "our",
        "their",
        "this",
        "that",
        "good",
        "other",
        "with",
        "to",
    ]
)
