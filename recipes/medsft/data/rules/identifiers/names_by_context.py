"""Rules that replace names by the words around them, where neither a title nor an introduction says that it is one:
'The patient Ada Lowe', 'Hi Ada, thank you', 'my friend Ada', 'the nurse, Ada, said'.

A context alone decides, never a list of names: they are of all countries. What a patient or doctor may write there with
a capital letter (symptoms, drugs, adverbs) is refused by `not_names`.
"""

import re
from collections import Counter
from typing import NamedTuple

from medsft.data.rules.identifiers.not_names import is_no_name
from medsft.data.rules.identifiers.person_names import CAPITALISED, FULL_NAME, NAME, RELATIVE
from medsft.data.rules.identifiers.placeholders import replace_after
from medsft.data.rules.signatures import DEGREE

CARER = (
    r"(?:doctor|GP|gp|nurse|surgeon|midwife|dentist|therapist|consultant|physician|pharmacist|physiotherapist|counsell?or"
    r"|[a-z]{3,}(?:ologist|iatrist|iatrician|opath))"
)
ACQUAINTANCE = r"(?:friend|neighbou?r|colleague|flatmate|roommate|boss|carer|teacher|landlady|landlord)"
ONE_OR_TWO = rf"{CAPITALISED}(?: {CAPITALISED})?"
BEGINS = r"(?:\A|[.!?\n]\s{0,3})"
AGE = r"(?:[1-9]\d? ?(?:years?|yrs?|y/?o|yo)\b|[1-9]\d(?=, ?(?i:male|female)\b|\.|,))"
PATIENTS, PEOPLE, DOCTORS = ({"user": kind, "assistant": kind} for kind in ("PATIENT", "PERSON", "DOCTOR"))


class Context(NamedTuple):
    """A pattern of the words before a name and of the name; it is searched where one of `words` is in the text.

    `kinds`: the placeholder in a patient's and in a doctor's message; `look`: so many words must look like names.
    """

    words: tuple[str, ...]
    pattern: str
    kinds: dict[str, str]
    look: int


CONTEXTS = [
    Context(
        (" called ", " named "),
        rf"(\b(?i:{CARER}|{ACQUAINTANCE}|{RELATIVE}),? (?:(?:is|was|who is|who was) )?(?:called|named) )({NAME})",
        PEOPLE,
        2,
    ),
    Context(
        ("d him ", "d her ", "d them "), rf"(\b(?:named|called|christened) (?:him|her|them) )({ONE_OR_TWO})", PEOPLE, 2
    ),
    Context(
        (" is my ", " is our ", " is his ", " is her "),
        rf"({BEGINS})({ONE_OR_TWO})(?= is (?:my|our|his|her) (?:[a-z]+ )?(?:{RELATIVE}|{ACQUAINTANCE})\b)",
        PEOPLE,
        2,
    ),
    Context(
        ("friend", "neighb", "colleague", "mate ", "boss ", "carer ", "teacher ", "landl"),
        rf"(\b(?:[Mm]y|[Oo]ur|[Hh]is|[Hh]er) (?:[a-z]+ )?{ACQUAINTANCE},? )({NAME})(?!['’]s (?:disease|syndrome))",
        PEOPLE,
        1,
    ),
    Context(
        ("doctor, ", "gp, ", "nurse, ", "surgeon, ", "wife, ", "ist, ", "ant, ", "ian, ", "or, ", "opath, "),
        rf"(\b(?:[Tt]he|[Mm]y|[Oo]ur) (?:[a-z]+ )?{CARER}, )({ONE_OR_TWO})(?=,)",
        DOCTORS,
        2,
    ),
    Context(
        (" by doctor ", " to doctor ", " by surgeon ", " by professor ", " to professor "),
        r"(\b(?i:according to|(?:seen|treated|referred|advised|operated(?: on)?) by) [DdSsPp]"
        rf"(?:octor|urgeon|rofessor) )({NAME})",
        DOCTORS,
        2,
    ),
    Context(("i, ",), rf"(\bI, )({FULL_NAME})(?=, )", {"user": "PATIENT"}, 2),
    Context(("the patient",), rf"(\b[Tt]he patient,? (?:named |called )?)({FULL_NAME})", PATIENTS, 3),
    Context(("patient name ",), rf"(\b(?i:patient) name )({FULL_NAME})", PATIENTS, 3),
    Context(("on behalf of ",), rf"(\bon behalf of )({FULL_NAME}|{CAPITALISED}(?=[,.]))", {"user": "PATIENT"}, 3),
    Context(
        (", male", ", female", ", man", ", woman", ", boy", ", girl", ",male", ",female", ", age", ", 1", ", 2", ", 3")
        + (", 4", ", 5", ", 6", ", 7", ", 8", ", 9"),
        rf"({BEGINS})({CAPITALISED} {CAPITALISED})(?=, ?(?:(?i:male|female|man|woman|boy|girl|aged?)\b|{AGE}))",
        {"user": "PATIENT"},
        2,
    ),
    Context(
        (" here",), rf"((?:\A|[.!?,]\s{{0,3}}))({CAPITALISED})(?= here,? (?:aged? )?{AGE})", {"user": "PATIENT"}, 1
    ),
    Context(
        ("hi ", "hello ", "hey ", "dear ", "good ", "thank", "welcome back "),
        rf"({BEGINS}(?:Hi|Hello|Hey|Dear|Good (?:morning|evening|afternoon|day)|Thanks|Thank you|Welcome back) )"
        rf"({ONE_OR_TWO})(?=,(?! ?\d)|!|\.\s)",
        {"assistant": "PATIENT"},
        2,
    ),
    Context(
        ("i am ", "i'm ", "i’m "),
        rf"(\b(?:I am|I['’]m) )({ONE_OR_TWO})(?=, (?:the|a|an|your|one of the) (?:[a-z]+ ){{0,3}}{CARER}s?\b)",
        {"assistant": "DOCTOR"},
        2,
    ),
    Context(
        ("thank",), rf"(\b(?i:thanks|thank you)[,.! \n-]+)({FULL_NAME})(?=,? ?{DEGREE})", {"assistant": "DOCTOR"}, 3
    ),
    Context(
        ("regards", "sincerely", "truly", "faithfully", "signed", "best wishes"),
        rf"(\b(?i:regards|sincerely|yours truly|faithfully|signed|best wishes)[,.:! \n-]+)({NAME})(?=\W*\Z)",
        {"user": "PATIENT", "assistant": "DOCTOR"},
        2,
    ),
]
PATTERNS = [re.compile(context.pattern) for context in CONTEXTS]
CHILDREN = re.compile(
    r"(\b(?:[Mm]y|[Oo]ur) (?:[a-z]+ )?(?:twins|children|kids|sons|daughters|boys|girls),? )"
    rf"({CAPITALISED}) and ({CAPITALISED})"
)
REPORTED = re.compile(  # 'dr. mehta told me'; a title of its own, for 'drugs prescribed' begins like one
    r"\b[Dd]r(?:\. ?| )(?P<name>[a-z]{3,})"
    r"(?= (?:told|said|says|prescribed|gave|advised|suggested|referred|asked|diagnosed)\b)"
)


def named_persons(text: str, role: str, counts: Counter[str]) -> str:
    """Names that the words around them give away."""
    lower, side = text.lower(), "assistant" if role == "assistant" else "user"
    for context, pattern in zip(CONTEXTS, PATTERNS, strict=True):
        if side in context.kinds and any(word in lower for word in context.words):
            text = replace_after(pattern, context.kinds[side], text, counts, context.look)
    if "dr" in lower:
        text = REPORTED.sub(lambda match: _reported(match, counts), text)
    return CHILDREN.sub(lambda match: _children(match, counts), text) if " and " in lower else text


def _children(match: re.Match[str], counts: Counter[str]) -> str:
    if any(is_no_name(name.lower()) for name in match.groups()[1:]):
        return match[0]
    counts["PERSON"] += 2
    return f"{match[1]}[PERSON] and [PERSON]"


def _reported(match: re.Match[str], counts: Counter[str]) -> str:
    if is_no_name(match["name"]) or match["name"].endswith("ly"):
        return match[0]
    counts["DOCTOR"] += 1
    return "[DOCTOR]"
