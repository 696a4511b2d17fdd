"""A doctor's signature as a whole, once the name in it is [DOCTOR]: a model that learnt it would sign its answers."""

import re
from collections import Counter

from medsft.data.rules.cleaning import courteous, drop_sentences

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
SIGN_OFF = re.compile(  # after the end of a sentence or a parting, also one glued to the word before, as crawled
    rf"(?:(?:(?<![A-Za-z])(?i:{PARTING})|(?<=[a-z])(?:Regards|Rgds|Wishes|Thanks|Take care))[\s,.:!-]*"
    rf"(?:(?i:{PARTING})[\s,.:!-]*){{0,3}}|(?:\A|(?<=[.!?…)\n])|(?<=[.!?…)][ ])|\n)-*\s*)"
    rf"(?:by )?\[DOCTOR\](?:[\s,.()/&|-]+(?i:{CREDENTIAL})){{0,9}}\W*\Z"
)
INTRODUCED = re.compile(
    r"\b(?:i am|i'm|this is|it's|my name is|my name's|myself) \[doctor\](?:,? an? (?:\w+ ){0,2}\w+(?:ist|ian|eon|or))?"
    r"|\b(?:regards|rgds),? ?\[doctor\]"
)


def sign_offs(text: str, role: str, counts: Counter[str]) -> str:
    """'Regards, [DOCTOR], Dermatologist' under an answer; sentences of nothing but courtesy and 'I am [DOCTOR]'."""
    if role != "assistant" or "[DOCTOR]" not in text:
        return text
    return drop_sentences(
        SIGN_OFF.sub("", text).rstrip(),
        lambda words: bool(INTRODUCED.search(words)) and courteous(INTRODUCED.sub("", words)),
    )
