"""Rules that replace birth dates, ages over 89, addresses and postcodes, and of Safe Harbor all dates and places.

Safe Harbor: 45 CFR 164.514(b)(2), the 18 kinds of identifiers of the HIPAA privacy rule. A year and a state may stay.
"""

import re
from collections import Counter

from medsft.data.rules.identifiers.not_names import is_no_name
from medsft.data.rules.identifiers.person_names import CAPITALISED, FILLER

MONTH = (
    r"(?:(?:January|February|March|April|May|June|July|August|September|October|November|December)\b"
    r"|(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\b\.?)"
)
ONES = r"(?:one|two|three|four|five|six|seven|eight|nine)"
TEENS = r"(?:ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen)"
TENS = r"(?:twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety)"
SPOKEN_DAY = (
    r"(?:(?:twenty|thirty)[- ]?)?(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth"
    rf"|{ONES}|{TEENS}|thirteenth|fourteenth|fifteenth|sixteenth|seventeenth|eighteenth|nineteenth|twentieth|thirtieth)"
    r"(?! thousand)"
)
SPOKEN_YEAR = (
    rf"(?:(?:nineteen|twenty|two thousand(?: and)?)(?:,? {FILLER}(?:{TENS}(?:[- ]{ONES})?|{TEENS}|oh {ONES}|{ONES})))"
)
YEAR = rf"(?:(?:19|20)\d\d|['’]\d\d|{SPOKEN_YEAR})"
DAY = rf"(?:(?:3[01]|[12]\d|0?[1-9])(?:st|nd|rd|th)?|{SPOKEN_DAY})"
# 'you may first try', 'the first may be viral', 'may march second': verbs, beside a day that is spelt out
NO_VERB = rf"(?!(?:the )?{SPOKEN_DAY}[ -](?:may|march)\b|(?:may|march)[ -](?:the )?{SPOKEN_DAY}\b)"
WRITTEN = rf"{NO_VERB}(?:(?:the )?{DAY}(?:[ -]| of |, ?)(?i:{MONTH})|(?i:{MONTH})[ -](?:the )?{DAY}\b(?! ?%))"
NUMERIC = (
    r"(?:(?:3[01]|[12]\d|0?[1-9])(?P<s>[-/.])(?:1[0-2]|0?[1-9]|[A-Z][a-z]{2})(?P=s)(?:(?:19|20)\d\d|\d\d)"
    r"|(?:1[0-2]|0?[1-9])/(?:3[01]|[12]\d|0?[1-9])/(?:(?:19|20)\d\d|\d\d)|(?:19|20)\d\d[-/.](?:1[0-2]"
    r"|0[1-9])[-/.](?:3[01]|[12]\d|0[1-9]))(?![-/.\w]*\d)"
)
DATE = re.compile(
    rf"(?<![\w/.-])(?:{NUMERIC}|{WRITTEN}(?:,?[ ,-]+{FILLER}(?P<year>{YEAR}))?)"
    r"(?!\w|[-/]\d| ?(?:mg|mcg|ml|g|kg|units?"
    rf"|times|tablets?)\b)"
)
MAYBE_DATE = re.compile(r"\d[-/.]\d|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec", re.IGNORECASE)
MONTH_AND_YEAR = re.compile(rf"\b(?i:{MONTH})(?:,? (?:of )?)(?={YEAR})")
BORN = re.compile(
    r"\b(?i:d\.?o\.?b\.?|date of birth|birth ?date|birth ?day"
    r"|born)\b"
    r"(?P<gap>[^.!?\d\n]{0,30}?(?:[?.!]\s+[^.!?\d\n]{0,12}?)?)"
    rf"(?P<date>{DATE.pattern}|{YEAR}(?:,? (?:on|in|uh|um|the)\b)*,? ?{WRITTEN})"
)
AGE = re.compile(
    r"(?P<before>\b(?i:aged?|turn(?:ed|ing|s)|age is|age)[ :=-]{1,3}|(?<![\d.,/-]))(?P<age>9\d|1[01]\d)"
    r"(?P<after>[ -]?(?:(?:years?|yrs?|yr)\.?[- ]?(?:old|of age)|y\.?/?o\.?\b|yo\b))?"
    r"(?! ?(?:%|percent|kg|kilos?|lbs?|pounds?|cm|mg|mcg|ml|mm|bpm|mmhg|degrees|days?|weeks?|months?|hours?|/"
    r"|-\d|\.\d|\d))",
    re.IGNORECASE,
)
MAYBE_AGE = re.compile(r"9\d|1[01]\d")
DIGIT = re.compile(r"\d")
STREET = (
    r"(?:(?i:street|st|road|rd|avenue|ave|lane|ln|boulevard|blvd|crescent|terrace|highway|hwy|gardens|nagar|colony|marg"
    r"|layout|enclave|vihar)"
    r"|Drive|DRIVE|Court|COURT|Square|SQUARE|Place|PLACE|Close|CLOSE"
    r"|(?:drive|court|square|place|close)(?=, [A-Z]))"  # in small letters verbs, but before a town
)
PROPER = r"(?:[A-Z][\w'’.-]*|\d{1,3}(?:st|nd|rd|th))"
UNIT_OF_HOUSE = r"(?:(?i:flat|apartment|apt|unit|suite|house|door|plot|room)[ .]*(?i:no)?[ .#:]*\d{1,5}[A-Za-z]?)"
NUMBERED = rf"(?:\d{{1,5}}[A-Za-z]?|{TENS}(?:[- ]{ONES})?|{TEENS})"
STREET_WORDS = frozenset(("street", "road", "avenue", "lane", "drive", "boulevard", "court", "crescent", "square"))
STREET_WORDS |= {"terrace", "highway", "gardens", "place", "close"}
HOUSE = rf"(?P<words>{PROPER}(?:[, ]+{PROPER}){{0,3}}?)[ ]{STREET}\b(?:,[ ]{UNIT_OF_HOUSE})?"
ADDRESS = re.compile(rf"(?<![\d.])\b\d{{1,5}}[A-Za-z]?,?[ ]{{1,2}}{HOUSE}")
SPOKEN_ADDRESS = re.compile(rf"\b(?:{TENS}(?:[- ]{ONES})?|{TEENS}),?[ ]{{1,2}}{HOUSE}")
OF_A_HOUSE = re.compile(
    rf"(?<!\d )\b{UNIT_OF_HOUSE},[ ]?(?P<words>{PROPER}(?:[, ]+{PROPER}){{1,5}})|\b(?i:p\.?o\.? ?box)[ ]?\d+"
)
BEFORE_ADDRESS = re.compile(rf"\b{UNIT_OF_HOUSE}[, ]+(?=\[ADDRESS\])")
MY_ADDRESS = re.compile(
    rf"(\b(?i:(?:my|home"
    rf"|our) address)(?: is)?[ ,:]+{FILLER}[ ]?)"
    rf"({NUMBERED}[ ,]+(?:[A-Za-z]+[ ,]+){{0,4}}?[A-Z][a-z]+(?:[ ,]+(?:in[ ,]+)?[A-Z][a-z]+){{0,3}})"
)
# The letters of the second part are those that British postcodes use, so that 'L4 5MG' is none.
BRITISH = re.compile(
    r"\b(?:[A-PR-UWYZ]\d{1,2}|[A-PR-UWYZ][A-HK-Y]\d{1,2}|[A-PR-UWYZ][A-HK-Y]?\d[A-Z]) "
    r"\d(?!HR|ST|ND|RD|TH)[ABD-HJLNP-UW-Z]{2}\b"
)
CODED = re.compile(
    r"(\b(?i:zip(?:[ -]?code)?|post(?:al)?[ -]?code|pin[ -]?code|PIN(?=:)|pincode)(?: is| was)?[ :=-]{1,3})"
    r"(\d{5}-\d{4}|\d{5,6}|\d{3} \d{3}|[A-Z]\d[A-Z] ?\d[A-Z]\d)\b"
)
LIVES = re.compile(
    r"(\b(?i:liv(?:e|es|ing) (?:in|near|at|outside)|resid(?:e|es|ing) (?:in|at|near)|resident of|(?:am|are|is"
    r"|I['’]m|come|comes|writing|moved|native) from|moved to|based in"
    rf"|settled in|relocated to|hail from|stay(?:ing)? in|was born in) )({CAPITALISED}(?:[ -]{CAPITALISED}){{0,2}})"
)
CLINIC = re.compile(
    rf"(?<![.!?] )\b((?:St\. )?{CAPITALISED}(?:['’]s)?(?:[ -]{CAPITALISED}(?:['’]s)?){{0,3}}"
    r" (?:Hospital|Clinic"
    rf"|Infirmary|Nursing Home|Medical Cent(?:er|re)))\b"
)


# Not smaller than a state, so Safe Harbor lets them stay; and where one has been is part of a medical history.
LARGE_WORDS = """
Afghanistan Africa Alabama Alaska Albania Algeria America Angola Argentina Arizona Arkansas Armenia Asia Australia
Austria Azerbaijan Bangladesh Belarus Belgium Bolivia Botswana Brazil Britain Bulgaria California Cambodia Canada
Chile China Colombia Colorado Congo Connecticut Croatia Cuba Cyprus Delaware Denmark Dubai Ecuador Egypt England
Estonia Ethiopia Europe Fiji Finland Florida France Georgia Germany Ghana Greece Guatemala Haiti Hawaii Honduras
Hungary Iceland Idaho Illinois India Indiana Indonesia Iowa Iran Iraq Ireland Israel Italy Jamaica Japan Jordan Kansas
Kazakhstan Kentucky Kenya Korea Kuwait Laos Latvia Lebanon Libya Lithuania Louisiana Luxembourg Madagascar Maine
Malaysia Mali Malta Maryland Massachusetts Mauritius Mexico Michigan Minnesota Mississippi Missouri Moldova Mongolia
Montana Morocco Mozambique Myanmar Namibia Nebraska Nepal Netherlands Nevada Nigeria Norway Ohio Oklahoma Oman Oregon
Pakistan Panama Paraguay Pennsylvania Peru Philippines Poland Portugal Qatar Romania Russia Rwanda Scotland Senegal
Serbia Singapore Slovakia Slovenia Somalia Spain Sudan Sweden Switzerland Syria Taiwan Tanzania Tennessee Texas
Thailand Tunisia Turkey Uganda Ukraine Uruguay Utah Uzbekistan Venezuela Vermont Vietnam Virginia Wales Washington
Wisconsin Wyoming Yemen Zambia Zimbabwe
"""
LARGE = frozenset(LARGE_WORDS.split())


def birth_dates(text: str, role: str, counts: Counter[str]) -> str:
    def replaced(match: re.Match[str]) -> str:
        counts["BIRTH_DATE"] += 1
        return f"{match[0][: match.start('date') - match.start()]}[BIRTH_DATE]"

    return BORN.sub(replaced, text) if "b" in text.lower() else text


def answered_birth_date(text: str, counts: Counter[str]) -> str:
    """The dates in a patient's answer to the doctor's question for the date of birth."""
    text, number = DATE.subn("[BIRTH_DATE]", text)
    counts["BIRTH_DATE"] += number
    return text


def great_ages(text: str, role: str, counts: Counter[str]) -> str:
    """'94 years old' -> '[AGE_OVER_89] years old'. A number alone is an age only after 'aged', 'age' or 'turned'."""

    def replaced(match: re.Match[str]) -> str:
        if not match["after"] and not match["before"]:
            return match[0]
        counts["AGE_OVER_89"] += 1
        return f"{match['before']}[AGE_OVER_89]{match['after'] or ''}"

    return AGE.sub(replaced, text) if MAYBE_AGE.search(text) else text


def addresses(text: str, role: str, counts: Counter[str]) -> str:
    """'27 Marlowe Street', 'P.O. Box 12'; postcodes of Great Britain by form, others after 'zip', 'PIN code'."""

    def replaced(match: re.Match[str]) -> str:
        words = (match["words"] or "").replace(",", " ").split()
        if any(is_no_name(word.lower()) and word not in ("North", "South") for word in words):
            return match[0]  # '5 Days On The Road'
        counts["ADDRESS"] += 1
        return "[ADDRESS]"

    def after(kind: str, match: re.Match[str]) -> str:
        counts[kind] += 1
        return f"{match[1]}[{kind}]"

    lower = text.lower()
    if any(word in lower for word in STREET_WORDS):
        text = SPOKEN_ADDRESS.sub(replaced, text)
    if "address" in lower:
        text = MY_ADDRESS.sub(lambda match: after("ADDRESS", match), text)
    if not DIGIT.search(text):
        return text
    text = OF_A_HOUSE.sub(replaced, text)
    text = BEFORE_ADDRESS.sub("", ADDRESS.sub(replaced, text))
    text = CODED.sub(lambda match: after("POSTCODE", match), text)
    text, number = BRITISH.subn("[POSTCODE]", text)
    counts["POSTCODE"] += number
    return text


def dates(text: str, role: str, counts: Counter[str]) -> str:
    """Days and months of dates; a year that stands apart stays."""

    def replaced(match: re.Match[str]) -> str:
        counts["DATE"] += 1
        return f"[DATE] {match['year']}" if match["year"] else "[DATE]"

    if not MAYBE_DATE.search(text):
        return text
    text = DATE.sub(replaced, text)
    text, number = MONTH_AND_YEAR.subn("[DATE] ", text)
    counts["DATE"] += number
    return text


def places(text: str, role: str, counts: Counter[str]) -> str:
    """The place where somebody lives, and named hospitals."""

    def lives(match: re.Match[str]) -> str:
        if is_no_name(match[2].split()[0].lower()) or match[2] in LARGE:
            return match[0]
        counts["PLACE"] += 1
        return f"{match[1]}[PLACE]"

    def clinic(match: re.Match[str]) -> str:
        if is_no_name(match[1].split()[0].lower()):
            return match[0]
        counts["PLACE"] += 1
        return "[PLACE]"

    return CLINIC.sub(clinic, LIVES.sub(lives, text))
