"""Rules that replace e-mail and other addresses, URLs, record numbers, phone numbers and platform names."""

import re
from collections import Counter
from collections.abc import Iterator

import phonenumbers

from medsft.data.rules.identifiers.placeholders import replace
from medsft.data.rules.platform_names import PLATFORM, may_name_platform

EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]+(?:(?:\.[\w-]+)*\.[a-z]{2,}|,(?:com|net|org)\b)", re.IGNORECASE)
SPOKEN_EMAIL = re.compile(
    r"\b[\w+-]+(?:(?:\.| dot )[\w+-]+)?(?: at | ?[\[(]at[\])] ?)[\w-]*(?: dot | ?[\[(]dot[\])] ?)"
    r"(?:com|net|org|edu|co dot \w\w|uk|au|ca|za|io|de|fr|eu|ie|nz|pk|ae|sg|ng|gov"
    r"|(?:(?<=mail dot )|(?<=yahoo dot )|(?<=outlook dot ))[a-z]{2})\b",  # elsewhere 'on', 'in', 'is', 'it' are words
    re.IGNORECASE,
)
TOP_LEVEL = r"com|org|net|edu|gov|info|int|eu|de|fr|uk|in|au|ca|za|io"
URL = re.compile(
    rf"(?:https?://|\bwww\.)[^\s<>\"]*|(?<![\w@.])(?:[a-z0-9-]+\.)+(?:(?:{TOP_LEVEL})/[^\s<>\"]*|(?:com|org|net)\b)",
    re.IGNORECASE,
)
MAYBE_URL = re.compile(rf"://|www\.|\.(?:{TOP_LEVEL})\b", re.IGNORECASE)
IP_ADDRESS = re.compile(r"(?<![\d.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\d.]*\d)")
MAYBE_IP_ADDRESS = re.compile(r"\d\.\d{1,3}\.\d")
# Seven digits close together. Texts without them are not searched, so doses, dates and 119/64 cost no time and stay.
MAYBE_PHONE = re.compile(r"(?:\d[\s().-]{0,3}){7}")
INTERNATIONAL = re.compile(r"(?<!\w)\+\d[\d\s().-]{7,17}\d\b")
# Invalid numbers too: of the North American form, or after a word that says that one can call them.
AMERICAN = re.compile(
    r"(?<![\w.-])(?:(?:\+|00)?1[-. ])?(?:\(\d{3}\)\s?|\d{3}[-.])\d{3}[-.]\d{4}(?:\s?x\d{1,5})?(?!\w|-\d)"
)
# 'cell' is of blood too: only where somebody's, or a phone's
CELL = r"(?<=my )cell|(?<=his )cell|(?<=her )cell|(?<=our )cell|(?<=your )cell|cell(?= ?(?:phone|number|no\b|nr\b|#))"
CALL_WORD = rf"(?i:phone|call|tel|telephone|mobile|mob|{CELL}|whats ?app|fax|contact|ring|reach|number|text)"
NUMBER_TO_CALL = re.compile(
    rf"(?:\b{CALL_WORD}\b(?:['’]s)?"
    rf"(?:\W{{1,3}}(?i:me|us|my|no|number|is|on|at|nr|the|clinic"
    rf"|office)\b){{0,3}}\W{{0,3}})"
    r"(\+?\(?\d(?:[ ().-]{0,2}\d){6,12}(?:\s?x\d{1,5})?)\b"
)
CALLED = re.compile(rf"\b(?:{CALL_WORD.replace('|reach', '').replace('|number', '|my number')})\b[^.!?\d]{{0,25}}\Z")
REGIONS = ("US", "GB", "IN")  # home countries of the known corpora; numbers with a + are found for every country
# Readings are no phone numbers: 'CD4 450 500 520', 'BP 180-200 110-120', 'HCG 1234567890 mIU/ml'.
MEASURED = re.compile(
    r"\b(?:a?bp|blood pressure|cd ?[48]|b?-?hcg|platelets?|w\.?b\.?c|r\.?b\.?c|counts?|(?:viral )?load|copies"
    r"|tsh|f?t[34]"
    r"|ferritin|glucose|sugars?|cholesterol|ldl|hdl|triglycerides?|creatinine|urea|psa|afp|cea|ca ?-?\d\d\d?|hba1c|b12"
    r"|vitamin|heart ?rate|pulse|hr|spo2|oxygen|weighs?|weight|temp(?:erature)?s?|readings?|levels?|values?"
    r"|ranges?|units?"
    r"|dos(?:e|age)s?|iu|esr|crp|alt|ast|alp|sgot|sgpt|bilirubin|amylase|lipase|sperm|d-?dimer|ha?emoglobin|hb"
    r"|testosterone|prolactin|estradiol|progesterone|fsh|lh|amh|cortisol|insulin|fasting|systolic|diastolic|pressure"
    r"|calories|steps|days?|mg|mcg|ml)\b[^\n.!?]{0,50}\Z",
    re.IGNORECASE,
)
UNIT = re.compile(
    r"\s?(?:%|mg|mcg|µg|ug|g\b|kg|ml|dl|l\b|iu|miu|u/|/|mmol|nmol|pmol|mm ?hg|bpm|cells|copies|units?|per\b"
    r"|x ?10|lakhs?|"
    r"million|cm|mm|°|degrees|days|weeks|years|hours|times)",
    re.IGNORECASE,
)
RANGES = re.compile(r"\d{2,3} ?- ?\d{2,3}[ ,/]+\d{2,3} ?- ?\d{2,3}|\d{2,3}(?:[ ,/-]\d{2,3}){2,}")
STRONG = (  # acronyms and words that mean an identifier wherever a number follows them
    r"MRN|UHID|UMRN|SSN|NHS|CNIC|Aadhaa?r|passport|medicare|medicaid|NPI|(?:health|insurance|identity|credit) card"
    r"|social security"
)
WEAK = (
    r"(?:medical|patient|hospital|health|case|file|chart|registration|reg\.?|insurance|policy|member|membership"
    r"|subscriber"
    r"|claim|plan|OPD|IPD|account|clinic|lab|accession|record|reference|beneficiary|employee|student|booking"
    r"|order|sample"
    r"|specimen|driving licen[cs]e|driver['’]?s? licen[cs]e|licen[cs]e)"
)
ONLY_SAFE_HARBOR = r"(?:(?:device|pacemaker|implant|serial|model|lot|batch|vehicle|plate|vin|chassis|imei)(?: serial)?)"
NUMBER_WORD = (
    r"(?:(?:record|file|policy|card|plan)[ ])?(?:id|i\.d\.|number|num|no|nr|ref(?:erence)?|#|record(?=[ ]?[:#]))\.?"
)
VALUE = r"((?:[A-Z]{1,8}[-/ ]?){0,2}\d[\dA-Z]*(?:[-/ ](?:[A-Z]{1,3}[-/])?[A-Z]{0,3}\d[\dA-Z]*){0,4})(?![\w.,]*\d)"
GAP = r"(?:[ ]?(?:is|was|=|:|#|-)){0,2}[ ]?#?"
RECORD = re.compile(
    rf"\b(?:(?i:{STRONG})(?:['’]s)?(?:[ ]?(?i:{NUMBER_WORD}))?|(?i:{WEAK})(?:['’]s)?[ ]?(?i:{NUMBER_WORD})){GAP}{VALUE}"
)
DEVICE = re.compile(rf"\b(?i:{ONLY_SAFE_HARBOR})[ ]?(?i:{NUMBER_WORD})?{GAP}{VALUE}")
MAYBE_RECORD = re.compile(r"\d\D?\d\D?\d\D?\d")
SOCIAL_SECURITY = re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])")
LEAST_DIGITS = 4
# 'Red cell 4.52 (4.20-5.40)': no phone number has a group of one or two digits before a decimal point and one or two
# behind it. '140/90' is a blood pressure, and no record's number; nor is a year alone.
DECIMAL = re.compile(r"(?<![\d.])\d{1,2}\.\d{1,2}(?![\d.])")
PRESSURE_OR_YEAR = re.compile(r"\d{2,3}/\d{2,3}(?![\d/])|(?:19|20)\d\d\Z")


def emails(text: str, role: str, counts: Counter[str]) -> str:
    if "@" in text:
        text = replace(EMAIL, "EMAIL", text, counts)
    return replace(SPOKEN_EMAIL, "EMAIL", text, counts) if "dot" in text.lower() else text


def urls(text: str, role: str, counts: Counter[str]) -> str:
    if not MAYBE_URL.search(text):
        return text
    return URL.sub(lambda match: _url(match[0], counts), text)


def ip_addresses(text: str, role: str, counts: Counter[str]) -> str:
    return replace(IP_ADDRESS, "IP_ADDRESS", text, counts) if MAYBE_IP_ADDRESS.search(text) else text


def record_numbers(text: str, role: str, counts: Counter[str]) -> str:
    """'MRN 483920', 'insurance no. AB-99310', and social security numbers by their form."""
    if not MAYBE_RECORD.search(text):
        return text
    return replace(SOCIAL_SECURITY, "RECORD", _values(RECORD, text, counts), counts)


def device_numbers(text: str, role: str, counts: Counter[str]) -> str:
    """Serial numbers of devices and vehicles."""
    return _values(DEVICE, text, counts) if MAYBE_RECORD.search(text) else text


def phones(text: str, role: str, counts: Counter[str]) -> str:
    """Phone numbers by the phonenumbers library (valid and grouped as that country writes them), then any +number,
    and what one is told to call. Not readings, doses and ranges."""
    if not MAYBE_PHONE.search(text):
        return text
    for start, end in sorted(set(_phone_spans(text)), reverse=True):
        if start >= 0 and text[start:end].strip() and "[PHONE]" not in text[start:end]:
            text = f"{text[:start]}[PHONE]{text[end:]}"
            counts["PHONE"] += 1
    return text


def platform_names(text: str, role: str, counts: Counter[str]) -> str:
    return replace(PLATFORM, "PLATFORM", text, counts) if may_name_platform(text) else text


def _phone_spans(text: str) -> Iterator[tuple[int, int]]:
    """The spans of phone numbers in a text, of which none overlaps another."""
    found: list[tuple[int, int]] = [match.span() for match in INTERNATIONAL.finditer(text)]
    found += [match.span() for match in AMERICAN.finditer(text)]
    found += [match.span(1) for match in NUMBER_TO_CALL.finditer(text)]
    for region in REGIONS:
        leniency = phonenumbers.Leniency.STRICT_GROUPING
        found += [(match.start, match.end) for match in phonenumbers.PhoneNumberMatcher(text, region, leniency)]
    last = -1
    for start, end in sorted(found, key=lambda span: (span[0], -span[1])):
        if start >= last and not _is_reading(text, start, end):
            yield start, end
            last = end


def _is_reading(text: str, start: int, end: int) -> bool:
    """Whether what looks like a phone number is a measurement: by the words before it, its unit, or as ranges."""
    number, before = text[start:end], text[max(0, start - 60) : start]
    if DECIMAL.search(number):
        return True
    if number.startswith("+") or CALLED.search(before):
        return False
    return bool(MEASURED.search(before) or UNIT.match(text, end) or RANGES.fullmatch(number))


def _values(pattern: re.Pattern[str], text: str, counts: Counter[str]) -> str:
    """The text with [RECORD] for the group of the pattern, where it has digits enough for an identifier."""

    def value(match: re.Match[str]) -> str:
        few = sum(map(str.isdigit, match[1])) < LEAST_DIGITS
        if few or UNIT.match(text, match.end()) or PRESSURE_OR_YEAR.match(match[1]):
            return match[0]
        counts["RECORD"] += 1
        return f"{match[0][: match.start(1) - match.start()]}[RECORD]"

    return pattern.sub(value, text)


def _url(url: str, counts: Counter[str]) -> str:
    counts["URL"] += 1
    kept = url.rstrip(".,;:!?)]'")
    return "[URL]" + url[len(kept) :]
