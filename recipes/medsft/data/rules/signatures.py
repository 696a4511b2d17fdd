"""Doctors' signatures: removed as a whole, once the name in them is [DOCTOR]."""

import re
from collections import Counter

from medsft.data.rules.courtesy import courteous, drop_sentences

DEGREE = (
    r"(?:M\.?D|M\.?B\.?\s?B\.?\s?S|D\.?O|M\.?S|Ph\.?D|MRC[A-Z]+|FRC[A-Z]+|FAC[A-Z]+|DM|DNB|RN|Consultant"
    r"|[A-Z]?[a-z]+(?:ist|ian|eon))\b"
)
CREDENTIAL = (
    rf"(?:{DEGREE}|(?:general|family|senior|chief|internal|specialist|department|dept|hospital|clinic|of|in|and)\b"
    r"|[a-z]*(?:ology|iatrics|iatry|medicine|surgery|practice|care)\b|\[(?:PLATFORM|URL|PHONE|EMAIL)\])"
)
PARTING = (
    r"(?:take care|(?:thanks|thank you)(?: (?:and|&))?|god bless(?: you)?"
    r"|(?:(?:best|kind|warm|good|with|my|all the) ){0,4}(?:regards?|rgds|wishes|best)"
    r"|yours(?: truly| sincerely| faithfully)?|sincerely|respectfully)"
)
SIGNATURE = re.compile(  # after a sentence or a parting, which may be glued to the word before it, as crawled
    rf"(?:(?:(?<![A-Za-z])(?i:{PARTING})|(?<=[a-z])(?:Regards|Rgds|Wishes|Thanks|Take care))[\s,.:!-]*"
    rf"(?:(?i:{PARTING})[\s,.:!-]*){{0,3}}|(?:\A|(?<=[.!?…)\n])|(?<=[.!?…)][ ])|\n)-*\s*)"
    rf"(?:by )?\[DOCTOR\](?:[\s,.()/&|-]+(?i:{CREDENTIAL})){{0,9}}\W*\Z"
)
INTRODUCED = re.compile(
    r"\b(?:i am|i'm|this is|it's|my name is|my name's|myself) \[doctor\](?:,? an? (?:\w+ ){0,2}\w+(?:ist|ian|eon|or))?"
    r"|\b(?:regards|rgds),? ?\[doctor\]"
)


def drop_signatures(text: str, role: str, counts: Counter[str]) -> str:
    """Remove 'Regards, [DOCTOR], Dermatologist' at the end, and sentences of courtesy with 'I am [DOCTOR]'."""
    if role != "assistant" or "[DOCTOR]" not in text:
        return text
    return drop_sentences(
        SIGNATURE.sub("", text).rstrip(),
        lambda words: bool(INTRODUCED.search(words)) and courteous(INTRODUCED.sub("", words)),
    )
