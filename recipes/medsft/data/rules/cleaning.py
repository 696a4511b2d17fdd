"""Named, counted cleaning rules for online consultations, each a small function from text to text.

Markup rules apply to both sides. Courtesy rules apply to the doctor's words and take whole sentences only: a sentence
goes when it holds a formula ('thanks for your query', 'hope this helps') and every one of its words is courtesy; a
single medical word keeps it.
"""

import html
import re
from collections.abc import Callable, Collection
from functools import lru_cache

import ftfy

from medsft.data.reading.dialogue import arrange
from medsft.data.reading.row_schemas import INVISIBLE, Turn
from medsft.data.rules.platform_names import PLATFORM

# Repair wrongly decoded text only: entities are strip_html's, quotation marks and ligatures stay as they were typed.
MOJIBAKE = ftfy.TextFixerConfig(
    unescape_html=False, uncurl_quotes=False, fix_latin_ligatures=False, fix_line_breaks=False
)
ENTITY = re.compile(r"&(?:#\d{1,6}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,20});", re.IGNORECASE)
ATTRIBUTES = r"(?:\s+[a-z-]+\s*=\s*(?:\"[^\"<>]*\"|'[^'<>]*'|[^\s<>]+))*"
BREAK_TAG = re.compile(rf"</?(?:br|p|div|li|tr|h[1-6]){ATTRIBUTES}\s*/?>", re.IGNORECASE)
TAG = re.compile(
    rf"</?(?:span|b|i|u|strong|em|a|ul|ol|table|tbody|td|th|font|img|sup|sub|hr|blockquote){ATTRIBUTES}\s*/?>",
    re.IGNORECASE,
)
ARROW = re.compile(r"\s*(?:-{2,}>\s*<link>|<link>|(?<=online)\s*-{2,}>|-{2,}>(?=\s*(?:\n|\Z))|>>(?=\s*(?:\n|\Z)))")
SENTENCE = re.compile(r"(?:https?://\S+|www\.\S+|\.\s?com(?![a-z])\s?|[^.!?\n])*(?:[.!?]+[\"')]*|\n|\Z)[^\S\n]*")
ADVERT = re.compile(
    r"(?:regarding follow ?up:? ?|follow us [a-z ]{0,30}? or )?"
    r"(?:(?:for|regarding) (?:any |a )?(?:further|more|other|detailed) [\w ]{3,30}?,? )?(?:please |kindly )?"
    r"(?:(?:to )?consult|contact|chat with|book a [\w ]{0,20}consultation with"
    r"|(?:revert|get back|come back|write back)[\w' ]{0,70}? to) "
    r"(?:an?|our|the)(?: [\w-]+){0,6}? \w+(?:ist|ian|eon|or|ert)s?(?: and traumatologist)?(?: physician)?,? "
    r"(?:online|[ao]n platform)"
)
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


def fix_mojibake(text: str) -> str:
    return ftfy.fix_text(text, MOJIBAKE)


def strip_html(text: str) -> str:
    """Entities to characters, twice for what was escaped twice; then known tags only, so that 'TSH <5' survives."""
    for _ in range(2):
        text = ENTITY.sub(lambda match: html.unescape(match[0]), text)
    return TAG.sub("", BREAK_TAG.sub("\n", text))


def plain_spaces(text: str) -> str:
    """No-break and other odd spaces to a plain one, zero-width characters away, at most one empty line."""
    text = re.sub(r"\r\n?|[\u2028\u2029\x85]", "\n", text)
    text = re.sub(r"[\x00\u200b\u2060\ufeff\xad]", "", text)
    text = re.sub(r"[^\S\n]+", " ", text)
    return re.sub(r" ?\n ?(?:\n ?)*\n ?", "\n\n", re.sub(r" ?\n ?", "\n", text)).strip()


def drop_dangling_arrow(text: str) -> str:
    """'consult a dermatologist online -->' points at a link that is no longer there."""
    return ARROW.sub("\n", text).strip() if ">" in text else text


def drop_adverts(text: str) -> str:
    """'For further doubts consult a dermatologist online'."""
    return drop_sentences(
        text, lambda words: (end := ADVERT.match(words)) is not None and courteous(words[end.end() :])
    )


def drop_greetings(text: str) -> str:
    """'Hello sir.', 'Hi there!'"""
    return drop_sentences(text, lambda words: bool(BARE_GREETING.fullmatch(words)))


def drop_opening_formulas(text: str) -> str:
    """'Thanks for your query on ...', 'I have gone through your question and understand your concern'."""
    return drop_sentences(text, lambda words: bool(OPENING.search(words)) and courteous(words))


def drop_closing_formulas(text: str) -> str:
    """'Hope this helps', 'Wishing you good health', 'Please rate this answer'; at the end also 'Thanks and regards'.

    Elsewhere a parting stays: the name under it is found by it, and goes with it later.
    """
    text = drop_sentences(text, lambda words: bool(CLOSING.search(words)) and courteous(words))
    pieces = [match[0] for match in SENTENCE.finditer(text)]
    end = len(pieces)
    while end and (not pieces[end - 1].strip() or BARE_PARTING.fullmatch(_words(pieces[end - 1]))):
        end -= 1
    return text if not "".join(pieces[end:]).strip() else "".join(pieces[:end]).rstrip()


# What the makers of the ChatDoctor corpora put where a doctor's name or the site's had been.
CHAT_DOCTOR = re.compile(
    r"(?:\A|(?<=[.!?\n])[^\S\n]*)(?:i am|i'm|this is|it's|regards|thanks|thank you|best wishes|yours|by|-+|,|\s)*"
    r"\bchat ?doctor\b\s*(?=[.!,]|\n|\Z)[.!,]*",
    re.IGNORECASE,
)


def drop_chat_doctor(text: str) -> str:
    """'I am Chat Doctor.', 'Regards, Chat Doctor': a sentence or a signature that holds nothing but this name."""
    return CHAT_DOCTOR.sub("", text) if "doctor" in text.lower() else text


MARKUP_RULES = {
    "mojibake": fix_mojibake,
    "html": strip_html,
    "spaces": plain_spaces,
    "dangling_arrow": drop_dangling_arrow,
}
COURTESY_RULES = {
    "greeting": drop_greetings,
    "advert": drop_adverts,
    "opening_formula": drop_opening_formulas,
    "closing_formula": drop_closing_formulas,
    "chat_doctor": drop_chat_doctor,
}
RULES = (*MARKUP_RULES, *COURTESY_RULES, "boilerplate_only")


def clean(turns: list[Turn], skip: Collection[str] = ()) -> tuple[list[Turn] | None, list[str]]:
    """The turns after every rule not in `skip`, with the names of the rules that changed them.

    None where nothing is left of the last answer: then the only name is the reason, 'boilerplate_only' or
    'empty_after_cleaning'.
    """
    fired: list[str] = []
    cleaned: list[Turn] = []
    for role, words in turns:
        text, names = clean_text(words, role, skip)
        if role == "assistant" and COURTESY_RULES.keys() & set(names) and GREETING.fullmatch(text):
            text = words if "boilerplate_only" in skip else ""
        fired += names
        cleaned.append((role, text))
    if not INVISIBLE.sub("", cleaned[-1][1]):
        return None, ["boilerplate_only" if turns[-1][1].strip() and fired else "empty_after_cleaning"]
    kept, _, repairs = arrange([turn for turn in cleaned if INVISIBLE.sub("", turn[1])])
    if len(kept) < 2:
        return None, ["empty_after_cleaning"]
    return kept, sorted({*fired, *repairs})


def clean_text(text: str, role: str, skip: Collection[str] = ()) -> tuple[str, list[str]]:
    """One turn after the rules of its side, and the names of those that changed it."""
    steps = trace(text, role, skip)
    return (steps[-1][2] if steps else text), [name for name, _, _ in steps]


def trace(text: str, role: str, skip: Collection[str] = ()) -> list[tuple[str, str, str]]:
    """What each rule that changed one turn did to it: its name, the text before and after."""
    steps, tidied = [], False
    for name, rule in (MARKUP_RULES | COURTESY_RULES if role == "assistant" else MARKUP_RULES).items():
        if name in skip:
            continue
        changed = rule(text)
        tidied = tidied or name == "spaces"
        if changed != text and tidied:
            changed = plain_spaces(changed)
        if changed != text:
            steps.append((name, text, changed))
        text = changed
    return steps


def drop_sentences(text: str, unwanted: Callable[[str], bool]) -> str:
    """Without the sentences that are unwanted, each given in lower case without outer punctuation."""
    pieces = [match[0] for match in SENTENCE.finditer(text) if match[0]]
    kept = [piece for piece in pieces if not unwanted(_words(piece))]
    return text if len(kept) == len(pieces) else plain_spaces("".join(kept))


@lru_cache(maxsize=256)  # three rules look at the same sentences one after another
def _words(sentence: str) -> str:
    """Lower case, platform names as one word, no outer punctuation, and no greeting in front."""
    text = PLATFORM.sub(" platform ", sentence)
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).lower().replace("’", "'")  # 'hiWarm welcome', as crawled
    return re.sub(r"\s+", " ", text).strip(" \n.,;:!?-()\"'")


def courteous(words: str) -> bool:
    """Whether a sentence in lower case holds nothing but courtesy."""
    return all(word in COURTESY for word in re.findall(r"[a-z]+(?:['-][a-z]+)*", words))
