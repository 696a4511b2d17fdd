"""Identifiers out of dialogues: typed placeholders such as [PHONE] in place of what points at a person or a site.
Then a doctor's signature goes as a whole: a model that learnt '[DOCTOR]' as the end of an answer would sign so.

Rules only, no model: e-mail, URL, record number, phone, doctors' names after a title or in a signature, patients who
introduce themselves, platform names. Names in running text without a title are not found; that needs a trained
recogniser (presidio.py).
"""

import re
from collections import Counter
from collections.abc import Callable, Collection

import phonenumbers

from medsft.data.reading.dialogue import arrange
from medsft.data.reading.row_schemas import Turn
from medsft.data.rules.cleaning import GREETING
from medsft.data.rules.platform_names import PLATFORM
from medsft.data.rules.signatures import DEGREE, sign_offs

EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]+(?:(?:\.[\w-]+)*\.[a-z]{2,}|,(?:com|net|org)\b)", re.IGNORECASE)
TOP_LEVEL = r"com|org|net|edu|gov|info|int|eu|de|fr|uk|in|au|ca|za|io"
URL = re.compile(
    rf"(?:https?://|\bwww\.)[^\s<>\"]*|(?<![\w@.])(?:[a-z0-9-]+\.)+(?:(?:{TOP_LEVEL})/[^\s<>\"]*|(?:com|org|net)\b)",
    re.IGNORECASE,
)
MAYBE_URL = re.compile(rf"://|www\.|\.(?:{TOP_LEVEL})\b", re.IGNORECASE)
# Seven digits close together: below that nothing is tried, so doses, dates and 119/64 cost nothing and stay.
MAYBE_PHONE = re.compile(r"(?:\d[\s().-]{0,3}){7}")
INTERNATIONAL = re.compile(r"(?<!\w)\+\d[\d\s().-]{7,17}\d\b")
# Numbers in use are not always valid ones: the North American form, and digits that a word says are a number to call.
AMERICAN = re.compile(
    r"(?<![\w.-])(?:(?:\+|00)?1[-. ])?(?:\(\d{3}\)\s?|\d{3}[-.])\d{3}[-.]\d{4}(?:\s?x\d{1,5})?(?!\w|-\d)"
)
TOLD_TO_CALL = re.compile(
    r"(\b(?i:phone|call|tel|telephone|mobile|mob|cell|whats ?app|fax|contact|ring|reach|number)\b(?:\W{1,3}"
    r"(?i:me|us|my|no|number|is|on|at|nr|the|clinic|office)\b){0,3}\W{0,3})"
    r"(\+?\(?\d(?:[ ().-]{0,2}\d){6,12}(?:\s?x\d{1,5})?)\b"
)
REGIONS = ("US", "GB", "IN")  # home countries of the known corpora; numbers with a + are found for every country

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
RECORD_WORD = (
    r"(?:MRN|UHID|SSN|NHS|CNIC|Aadhaar|(?:medical|patient|hospital|health|case|file|chart|registration|reg\.?|insurance"
    r"|policy|passport|OPD|IPD|account|social security|clinic|lab|accession)(?:['’]s)?[ ]"
    r"(?:record|file|id|ref(?:erence)?)?[ ]?(?=(?:id|no|num|#|record|ref|\W))|(?:record|reference)(?=[ ]?#))"
)
RECORD = re.compile(
    rf"(\b(?i:{RECORD_WORD})[ ]?(?i:(?:id|number|num|no)\b\.?)?\s?(?:is|was|[:#=-])?\s?#?)"
    r"(?<![A-Za-z])([A-Z]{0,4}[-/]?\d(?:[-/ ]?[\dA-Z]){3,13})\b(?![.,]?\d)"
)
MAYBE_RECORD = re.compile(r"\d\D?\d\D?\d\D?\d")
SOCIAL_SECURITY = re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])")
HERE = re.compile(rf"((?:\A|[.!?,]\s{{0,3}}))({CAPITALISED} {CAPITALISED})(?= here\b)")
# Words that follow 'Dr.' or 'I am' with a capital for another reason than being a name.
NOT_NAMES_WORDS = """
a afraid african all also although am american an and any are as asian ask at august be because been before black both
british but by call can check could currently dear december diabetic did do doctor doctors does dr february female for
friday from further general get give go god good had has have having he hello help her hi his hope how i if in indian
is it its january just kindly last let like living ma'am madam male march married may maybe me monday most my need new
no not november now october of office on one only or our out patient please pregnant rather respected right said
saturday say see seek september she should since sir so some sorry still suffering sunday take tell thank thanks that
the their them then there they this throat thursday to today told too try tuesday type very was we wednesday well were
what when where which white who why will with without working worried would yes yesterday you your
"""
NOT_NAMES = frozenset(NOT_NAMES_WORDS.split())


def deidentify(text: str, role: str, skip: Collection[str] = ()) -> tuple[str, Counter[str]]:
    """The text with placeholders, and how many of each kind were put in. `role` is 'user' or 'assistant'.

    Rules named in `skip` are left out.
    """
    counts: Counter[str] = Counter()
    steps = trace(text, role, skip, counts)
    return (steps[-1][2] if steps else text), +counts


def deidentify_turns(turns: list[Turn], skip: Collection[str] = ()) -> tuple[list[Turn], Counter[str], list[str]]:
    """All turns of a dialogue, the placeholders by kind, and the names of the rules that changed something.

    No turns where nothing but a signature was left of the last answer.
    """
    counts: Counter[str] = Counter()
    fired: set[str] = set()
    kept = []
    for role, text in turns:
        steps = trace(text, role, skip, counts)
        text = steps[-1][2] if steps else text
        names = {name for name, _, _ in steps}
        if "sign_off" in names and GREETING.fullmatch(text):
            text = ""
        kept.append((role, text))
        fired |= names
    whole = arrange([turn for turn in kept if turn[1]])[0] if kept[-1][1] else []
    return whole, +counts, sorted(fired)


def trace(
    text: str, role: str, skip: Collection[str] = (), counts: Counter[str] | None = None
) -> list[tuple[str, str, str]]:
    """What each rule that changed one turn did to it: its name, the text before and after. Adds to `counts`."""
    counts = Counter() if counts is None else counts
    steps = []
    for name, rule in RULES.items():
        changed = text if name in skip else rule(text, role, counts)
        if changed != text:
            steps.append((name, text, changed))
        text = changed
    return steps


def emails(text: str, role: str, counts: Counter[str]) -> str:
    return _replace(EMAIL, "EMAIL", text, counts) if "@" in text else text


def urls(text: str, role: str, counts: Counter[str]) -> str:
    if not MAYBE_URL.search(text):
        return text
    return URL.sub(lambda match: _url(match[0], counts), text)


def record_numbers(text: str, role: str, counts: Counter[str]) -> str:
    """'MRN 483920', 'patient ID: AB-99310', and social security numbers by their form."""
    if not MAYBE_RECORD.search(text):
        return text
    text = _replace_second(RECORD, "RECORD", text, counts, look=0)
    return _replace(SOCIAL_SECURITY, "RECORD", text, counts)


def phones(text: str, role: str, counts: Counter[str]) -> str:
    """Phone numbers by the phonenumbers library (valid and grouped as that country writes them), then any +number."""
    if not MAYBE_PHONE.search(text):
        return text
    for region in REGIONS:
        leniency = phonenumbers.Leniency.STRICT_GROUPING
        for match in reversed(list(phonenumbers.PhoneNumberMatcher(text, region, leniency))):
            text = f"{text[: match.start]}[PHONE]{text[match.end :]}"
            counts["PHONE"] += 1
    text = _replace_second(TOLD_TO_CALL, "PHONE", text, counts)
    return _replace(INTERNATIONAL, "PHONE", _replace(AMERICAN, "PHONE", text, counts), counts)


def doctor_names(text: str, role: str, counts: Counter[str]) -> str:
    return TITLED.sub(lambda match: _titled(match, counts), text)


def signatures(text: str, role: str, counts: Counter[str]) -> str:
    """The name under a doctor's answer."""
    if role == "assistant":
        for pattern in (SIGNED, PARTED, DEGREED, SIGNED_LOWER):
            text = _replace_second(pattern, "DOCTOR", text, counts)
    return text


def introductions(text: str, role: str, counts: Counter[str]) -> str:
    """The name with which a speaker introduces himself or ends his message."""
    if role == "assistant":
        return _replace_second(NAMED_SELF, "DOCTOR", text, counts, look=1)
    for pattern, look in ((NAMED_SELF, 1), (PRESENTED_SELF, 2), (MYSELF, 2), (NAME_FIELD, 1), (HERE, 2), (PARTED, 2)):
        text = _replace_second(pattern, "PATIENT", text, counts, look)
    return text


def platform_names(text: str, role: str, counts: Counter[str]) -> str:
    return _replace(PLATFORM, "PLATFORM", text, counts)


RULES: dict[str, Callable[[str, str, Counter[str]], str]] = {
    "email": emails,
    "url": urls,
    "record_number": record_numbers,
    "phone": phones,
    "doctor_name": doctor_names,
    "signature": signatures,
    "patient_name": introductions,
    "platform": platform_names,
    "sign_off": sign_offs,
}


def _replace(pattern: re.Pattern[str], kind: str, text: str, counts: Counter[str]) -> str:
    text, number = pattern.subn(f"[{kind}]", text)
    counts[kind] += number
    return text


def _replace_second(pattern: re.Pattern[str], kind: str, text: str, counts: Counter[str], look: int = 2) -> str:
    """Replace what follows the pattern's first group, unless one of its first `look` words is no name."""

    def placeholder(match: re.Match[str]) -> str:
        words = re.findall(r"[a-zß-ÿ'’]+", match[0][len(match[1]) :].lower())[:look]
        if any(word in NOT_NAMES or word.endswith("ing") for word in words if word != "dr"):
            return match[0]
        counts[kind] += 1
        return f"{match[1]}[{kind}]"

    return pattern.sub(placeholder, text)


def _titled(match: re.Match[str], counts: Counter[str]) -> str:
    article, spelt_out, name = match.groups()
    first = re.split(r"[ -]", name)[0].lower()
    if first in NOT_NAMES or (article and spelt_out == "doctor"):  # 'ask your doctor Most people ...'
        return match[0]
    counts["DOCTOR"] += 1
    return f"{article}[DOCTOR]"


def _url(url: str, counts: Counter[str]) -> str:
    counts["URL"] += 1
    kept = url.rstrip(".,;:!?)]'")
    return "[URL]" + url[len(kept) :]
