"""Rules that replace e-mail addresses, URLs, record numbers, phone numbers and platform names."""

import re
from collections import Counter

import phonenumbers

from medsft.data.rules.placeholders import replace, replace_after
from medsft.data.rules.platform_names import PLATFORM

EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]+(?:(?:\.[\w-]+)*\.[a-z]{2,}|,(?:com|net|org)\b)", re.IGNORECASE)
TOP_LEVEL = r"com|org|net|edu|gov|info|int|eu|de|fr|uk|in|au|ca|za|io"
URL = re.compile(
    rf"(?:https?://|\bwww\.)[^\s<>\"]*|(?<![\w@.])(?:[a-z0-9-]+\.)+(?:(?:{TOP_LEVEL})/[^\s<>\"]*|(?:com|org|net)\b)",
    re.IGNORECASE,
)
MAYBE_URL = re.compile(rf"://|www\.|\.(?:{TOP_LEVEL})\b", re.IGNORECASE)
# Seven digits close together. Texts without them are not searched, so doses, dates and 119/64 cost no time and stay.
MAYBE_PHONE = re.compile(r"(?:\d[\s().-]{0,3}){7}")
INTERNATIONAL = re.compile(r"(?<!\w)\+\d[\d\s().-]{7,17}\d\b")
# Invalid numbers too: of the North American form, or after a word that says that one can call them.
AMERICAN = re.compile(
    r"(?<![\w.-])(?:(?:\+|00)?1[-. ])?(?:\(\d{3}\)\s?|\d{3}[-.])\d{3}[-.]\d{4}(?:\s?x\d{1,5})?(?!\w|-\d)"
)
NUMBER_TO_CALL = re.compile(
    r"(\b(?i:phone|call|tel|telephone|mobile|mob|cell|whats ?app|fax|contact|ring|reach|number)\b(?:\W{1,3}"
    r"(?i:me|us|my|no|number|is|on|at|nr|the|clinic|office)\b){0,3}\W{0,3})"
    r"(\+?\(?\d(?:[ ().-]{0,2}\d){6,12}(?:\s?x\d{1,5})?)\b"
)
REGIONS = ("US", "GB", "IN")  # home countries of the known corpora; numbers with a + are found for every country
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


def emails(text: str, role: str, counts: Counter[str]) -> str:
    return replace(EMAIL, "EMAIL", text, counts) if "@" in text else text


def urls(text: str, role: str, counts: Counter[str]) -> str:
    if not MAYBE_URL.search(text):
        return text
    return URL.sub(lambda match: _url(match[0], counts), text)


def record_numbers(text: str, role: str, counts: Counter[str]) -> str:
    """'MRN 483920', 'patient ID: AB-99310', and social security numbers by their form."""
    if not MAYBE_RECORD.search(text):
        return text
    text = replace_after(RECORD, "RECORD", text, counts, look=0)
    return replace(SOCIAL_SECURITY, "RECORD", text, counts)


def phones(text: str, role: str, counts: Counter[str]) -> str:
    """Phone numbers by the phonenumbers library (valid and grouped as that country writes them), then any +number."""
    if not MAYBE_PHONE.search(text):
        return text
    for region in REGIONS:
        leniency = phonenumbers.Leniency.STRICT_GROUPING
        for match in reversed(list(phonenumbers.PhoneNumberMatcher(text, region, leniency))):
            text = f"{text[: match.start]}[PHONE]{text[match.end :]}"
            counts["PHONE"] += 1
    text = replace_after(NUMBER_TO_CALL, "PHONE", text, counts)
    return replace(INTERNATIONAL, "PHONE", replace(AMERICAN, "PHONE", text, counts), counts)


def platform_names(text: str, role: str, counts: Counter[str]) -> str:
    return replace(PLATFORM, "PLATFORM", text, counts)


def _url(url: str, counts: Counter[str]) -> str:
    counts["URL"] += 1
    kept = url.rstrip(".,;:!?)]'")
    return "[URL]" + url[len(kept) :]
