"""Rules for the doctor's courtesies and adverts. They remove whole sentences only: a sentence goes when it holds a
formula ('thanks for your query', 'hope this helps') and each of its words is courtesy. A single medical word keeps it.

To add one, write a function from text to text and add it to COURTESY_RULES, which are applied in order.
"""

import re
from collections.abc import Callable
from functools import lru_cache

from medsft.data.rules.markup import plain_spaces
from medsft.data.rules.platform_names import PLATFORM, may_name_platform
from medsft.data.rules.sentences import sentences

# The groups are free words; each of them must be courtesy too.
ADVERT = re.compile(
    r"(?:regarding follow ?up:? ?|follow us ([a-z ]{0,30}?) or )?"
    r"(?:(?:for|regarding) (?:any |a )?(?:further|more|other|detailed) ([\w ]{3,30}?),? )?(?:please |kindly )?"
    r"(?:(?:to )?consult|contact|chat with|book a ([\w ]{0,20})consultation with"
    r"|(?:revert|get back|come back|write back)([\w' ]{0,70}?) to) "
    r"(?:an?|our|the)(?: (?!for\b|about\b|if\b|with\b|who\b|because\b)[a-z-]+){0,4}? "
    r"[a-z]+(?:ist|ian|eon|or|ert)s?(?: and traumatologist)?(?: physician)?,? (?:online|[ao]n platform)"
)
ADVERT_WORDS = """
above answers asked images investigations photo photographs photos pictures queries report reports result results test
tests treatment
"""
OPENING = re.compile(
    r"thank(?:s| you)(?: (?:so|very) much| a lot)? for (?:your|the (?:query|question)|posting|choosing|contacting|using"
    r"|writing|trusting|consulting|asking (?:on|at|your|us))|welcome (?:back )?to|greetings from|\bappreciates?\b"
    r"|query is important|i am happy to help you today|our pleasure|gone through (?:your|the|this)"
    r"|(?:read|reviewed|evaluated) (?:your|by)|understand (?:your|the|ur) (?:\w+ )?concern|here is my advice"
    r"|has been (?:received|reviewed|forwarded)|have received your"
)
CLOSING = re.compile(
    r"\bhope (?:this|that|it|i|we|to|you get|you are satisfied"
    r"|(?:your|my|the) (?:query|question|doubt|concern|answer|advice))\b"
    r"|\A(?:i |we )?trust (?:i|we|this|your question)\b"
    r"|\bwish(?:ing|es)? (?:you|a|good|fine|your|him|her)\b|let me know if|feel free|be happy to (?:help|assist)"
    r"|assist you further"
    r"|(?:\A|please |kindly )rate (?:this|it|our|us)\b|feedback|write back|revert|log in|stay healthy|answer useful"
    r"|close the (?:thread|discussion)|thank the doctor|\bpremium\b|\bclick\b|follow-?\s?up question|follow us"
    r"|for information only|doctor-patient relationship|like to video|have a healthy day|\bplatform\b"
    r"|(?:platform|panel|experts?|specialists?|we)\b.* round the clock"
)
COURTESY_WORDS = """
a about accept account additional advice after again ahead all always am an and answer answered answering answers any
anytime appreciate appreciates are around as ask asking assist assistance at available baby back be been being best
book brother by call can care carefully case certified chat child choose choosing clarification clarifications clears
click clock close closed com concern concerns consult consultation contact contacting continue continued continuing
conversation could create daughter day dear depth detail detailed details diligence disclaimer discussion do doctor
doctor-patient doctors does doubt doubts down each evaluated experience experienced expert experts family father
feedback feel fine five follow follow-up follow-ups followup for forum forwarded found free friends from further
genuine get give given go gone good good-health great greetings guidance happy has have health healthy hello help
helped helpful helping helps her here here's hesitate hi him his history home hope how husband i if important in
information informative is it join kind kindly know lastly leave let like liked link live log love make many matter
may me medical member members message messages minutes more most mother much my night no not now of off on one online
only opinion opinions or other our ours over paid panel part partner patience physician physicians plan platform
please pleasure post posting premium priority problem provide providing qualified queries query question questions
quick raising rate read real received recovery regarding regards relationship remaining remember reply resolve
resolved response revert review reviewed round s satisfaction satisfied say send service services settles share
sharing sister site so solved son soon speak specialist specialists speedy stars stay submitting support surgeons talk
team tell text thank thanks that the their them there this thoroughly thread through time tips to today together touch
trust trusted trusting try understand understood unlimited up upgrade us use useful user using valuable valued
verified very via video view visit visiting warm was way we website welcome well went were what where which wife will
wish wishes wishing with within would write writing x you your yours
"""
COURTESY = frozenset(COURTESY_WORDS.split())
IN_ADVERTS = COURTESY | frozenset(ADVERT_WORDS.split())
# Advice to act, in words that courtesy uses too: 'Call your doctor now, do not stay home, and write back.'
URGES = re.compile(
    r"\b(?:call|see|visit|contact|consult|tell|ask|go to|speak (?:to|with)|talk to) (?:your|a|the|another)"
    r"(?: (?:own|family|local|nearest))? (?:doctor|physician|specialist|gp|surgeon|team)s?\b(?! (?:online|on))"
    r"|\bdo not (?!hesitate|forget)|\bnot (?:feel(?:ing)? |so |very )?well\b"
)
# Digits, and letters of another script: no sentence with one is mere courtesy, but for a site's own numbers.
CONTENT = re.compile(r"[^\W_a-z]")
SITE_NUMBER = re.compile(
    r"\b24 ?[x/*] ?7\b|\b\d+ (?=free (?:follow-?ups?|questions?)\b|stars?\b)|(?<=within )\d+ (?=minutes\b)"
)
GLUED = re.compile(r"(?<=[a-z])(?=[A-Z])")  # 'hiWarm welcome', as crawled
ODD_BLANKS = re.compile(r" \s+|[^\S ]\s*")  # all but a single plain space
BARE_GREETING = re.compile(
    r"(?:hi+|hello|hey|dear|greetings|good (?:morning|day|evening))"
    r"(?:[ ,]+(?:hi|hello|dear|user|sir|madam|ma'am|there|friend|doctor|good (?:morning|day|evening)))*"
)
BARE_PARTING = re.compile(
    r"(?:(?:(?:and|with|my|many|best|kind|warm|good) )*(?:thanks?|thank you|regards?|wishes|luck|take care|all the best"
    r"|best of luck|god bless(?: you)?|stay safe|bye)[ ,.]*)+"
)
GREETING = re.compile(
    r"(?:\W|\b(?:hi+|hello|hey|dear|user|sir|madam|ma'?am|doctor|dr|there|regards|thanks|thank you|bye|ok|okay|"
    r"good (?:morning|day|evening)|\[\w+\])\b)*",
    re.IGNORECASE,
)


def drop_adverts(text: str) -> str:
    """'For further doubts consult a dermatologist online'."""

    def advert(words: str) -> bool:
        match = ADVERT.match(words)
        free = " ".join(filter(None, match.groups())) if match else ""
        return match is not None and courteous(free, IN_ADVERTS) and courteous(words[match.end() :])

    return drop_sentences(text, advert)


def drop_greetings(text: str) -> str:
    """'Hello sir.', 'Hi there!'"""
    return drop_sentences(text, lambda words: bool(BARE_GREETING.fullmatch(words)))


def drop_opening_formulas(text: str) -> str:
    """'Thanks for your query on ...', 'I have gone through your question and understand your concern'."""
    return drop_sentences(text, lambda words: bool(OPENING.search(words)) and _no_more_than_courteous(words))


def _no_more_than_courteous(words: str) -> bool:
    return courteous(words) and not URGES.search(words)


def drop_closing_formulas(text: str) -> str:
    """'Hope this helps', 'Wishing you good health', 'Please rate this answer'; at the end also 'Thanks and regards'.

    A parting elsewhere stays: it shows where a name follows, and de-identification removes both.
    """
    text = drop_sentences(text, lambda words: bool(CLOSING.search(words)) and _no_more_than_courteous(words))
    pieces = sentences(text)
    end = len(pieces)
    while end and (not pieces[end - 1].strip() or BARE_PARTING.fullmatch(plain_words(pieces[end - 1]))):
        end -= 1
    return text if not "".join(pieces[end:]).strip() else "".join(pieces[:end]).rstrip()


# The makers of the ChatDoctor corpora put this name in place of a doctor's or a site's.
CHAT_DOCTOR = re.compile(
    r"(?:\A|(?<=[.!?\n])[^\S\n]*)(?:i am|i'm|this is|it's|regards|thanks|thank you|best wishes|yours|by|-+|,|\s)*"
    r"\bchat ?doctor\b\s*(?=[.!,]|\n|\Z)[.!,]*",
    re.IGNORECASE,
)


def drop_chat_doctor(text: str) -> str:
    """'I am Chat Doctor.', 'Regards, Chat Doctor': a sentence or a signature with nothing but this name."""
    return CHAT_DOCTOR.sub("", text) if "doctor" in text.lower() else text


COURTESY_RULES = {
    "greeting": drop_greetings,
    "advert": drop_adverts,
    "opening_formula": drop_opening_formulas,
    "closing_formula": drop_closing_formulas,
    "chat_doctor": drop_chat_doctor,
}


def drop_sentences(text: str, unwanted: Callable[[str], bool]) -> str:
    """The text without the sentences for which `unwanted` is true of their `plain_words`."""
    pieces = sentences(text)
    kept = [piece for piece in pieces if not unwanted(plain_words(piece))]
    return text if len(kept) == len(pieces) else plain_spaces("".join(kept))


@lru_cache(maxsize=256)  # several rules look at the same sentences in turn
def plain_words(sentence: str) -> str:
    """The sentence in lower case, platform names as one word, without outer punctuation."""
    text = PLATFORM.sub(" platform ", sentence) if may_name_platform(sentence) else sentence
    text = GLUED.sub(" ", text).lower().replace("’", "'")
    return ODD_BLANKS.sub(" ", text).strip(" \n.,;:!?-()\"'")


def courteous(words: str, known: frozenset[str] = COURTESY) -> bool:
    """Whether a sentence in lower case holds nothing but courtesy: no other word, no number, no other script."""
    words = SITE_NUMBER.sub("", words)
    return not CONTENT.search(words) and known.issuperset(re.findall(r"[a-z]+(?:['-][a-z]+)*", words))
