"""What the two classifiers read: words with their scope, and marks of what a sentence says about place and time.

A word is tagged where its sentence takes it back: `not_` after a negation of its clause (Das and Chen 2001; the clause
ends at a comma or "but", so that "I am not feeling well, chest pain" keeps its chest pain), `if_` in a sentence with a
condition, `q_` in a question. Marks are pairs of classes (a place of care, a time, an order, ...) that one sentence
names, with the same tags: "call an ambulance if it spreads" and "call an ambulance" share no mark.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import combinations

SENTENCE_END = re.compile(r"(?<=[.!?;\n])\s+|\n")
CLAUSE_END = re.compile(r"[,:;]|\bbut\b")
WORD = re.compile(r"[a-z0-9][a-z0-9']*|[?]")
NEGATION = re.compile(r"(?:no|not|never|without|cannot|neither|nor|none|nothing|rather|instead|\w+n't)")
CONDITION = re.compile(
    r"(?<!even )(?<!as )\bif\b"
    r"|\bshould (?:you|he|she|it|they|there|the|your|his|her|any|contractions|symptoms|pain)\b"
    r"|\bin (?:the )?(?:\w+ )?(?:case|event)\b|\bunless\b|\botherwise\b|\bonce\b|\bany of\b|\bthe moment\b"
    r"|^(?:were|had|when|whenever|supposing|provided|until)\b|\bwhen (?:you|he|she|it|there|your|the)\b"
    r"|\b(?:as|so) long as\b|\bfirst sign\b|\bwould (?:be|need|have)\b|\bonly (?:for|with)\b"
    r"|\bwere (?:you|he|she|it|there|the|to|your)\b|\b(?:red flags?|(?:danger|warning) signs?)\b",
    re.IGNORECASE,
)
# What a doctor's sentence names. Two classes together carry what neither does: a time is urgent beside a place of care.
CLASSES = {
    "place": r"hospitals?|a ?& ?e|a and e|er|ed|icu|nicu|ot|casualty|emergency|(?:labou?r |delivery )?ward|labou?r room"
    r"|theatre|maternity|triage|(?:burns|stroke|day|delivery|eye)? ?unit|stroke (?:team|clinic)|admission|ambulatory"
    r"|hospitali[sz]ation|drip|(?:burns|higher|tertiary|trauma|cath|dialysis|nearest) (?:centre|center|lab)",
    "crew": r"ambulance|paramedics?|crew|999|911|112|108|102|000|111|988|emergency (?:services?|number|line)"
    r"|blue[- ]light|crisis (?:line|team)|poison (?:control|centre|line)",
    "expert": r"surgeons?|surgery|surgical|neurosurge\w+|p(?:a)?ediatricians?|gyna?ecologist|urologist|cardiologists?"
    r"|ophthalmologist|eye (?:doctor|surgeon|specialist|casualty|hospital)|on[- ]call|specialist|doctors?|dentist|team"
    r"|physicians?|psychiatrist|midwife|obstetrician|scan|ct|mri|x-?ray|ecg|troponin|blood tests?|transfusion"
    r"|intravenous|iv|catheter|antivenom|operat\w+",
    "now": r"now|today|tonight|this (?:evening|morning|afternoon|minute|instant|very day|night|hour)|immediate(?:ly)?"
    r"|at once|straight ?away|straight off|straight|right away|right now|without (?:any |further )?delay|urgent(?:ly)?"
    r"|asap|as (?:soon|early) as possible|at the earliest|prompt(?:ly)?|same[- ](?:day|hour)|directly|instantly|rush"
    r"|(?:with)?in the (?:next )?(?:few |couple of |half |an? )?(?:hours?|minutes?)|within (?:an|one|two) hours?"
    r"|within (?:hours|minutes)|in the next (?:\w+ ){0,3}(?:hours?|minutes?|min)|hurry|emergency basis"
    r"|before (?:bedtime|dark|noon|midday|midnight|the night|tonight)|by (?:tonight|noon|evening)"
    r"|(?:this|it) can'?t wait|every (?:hour|minute) counts",
    "later": r"next (?:week|month|visit|appointment|check|routine|refill|year|few weeks)|fortnight|weeks?|months?"
    r"|(?:coming|few|some|two|three|four|six) (?:days|weeks|months)|routine(?:ly)?|elective(?:ly)?|planned|some time"
    r"|at your convenience|when convenient|in due course|no (?:hurry|rush)|yearly|annual(?:ly)?|book|appointment"
    r"|follow[- ]up|autumn|spring|summer|winter",
    "order": r"go|take|bring|get|drive|run|rush|head|attend|call|dial|ring|phone|proceed|report|reach|visit|leave|come"
    r"|shift|admit(?:ted)?|seek|see|seen|assessed|evaluated|examined|checked|treated|looked at|need(?:s|ed)?|must"
    r"|(?:has|have) to|be (?:in|at)|walk|hospitali[sz]ed|consult|transfer(?:red)?",
    "past": r"was|were|had|did|went|took|called|sent|last (?:night|week|year|month)|yesterday|ago|in (?:19|20)\d\d"
    r"|cleared|excluded|discharged|after discharge",
    "dose": r"tablets?|dose|cream|drops|capsule|pill|inhaler|apply|insulin|mg|spray|ointment|dressing",
}
# What a patient's message names: whose trouble, when, how it is now, and what is asked for.
SIGNS = {
    "relative": r"(?:my|his|her|our) (?:dad|father|mum|mom|mother|aunt|uncle|cousin|nephew|grand\w+|gran|sister|brother"
    r"|friend|neighbour)\b.{0,40}\b(?:died|had|got|was|passed)",
    "past": r"in (?:19|20)\d\d|(?:years?|months|winters?|summers?) (?:ago|back)|since (?:19|20)\d\d"
    r"|last (?:year|summer|winter|spring|month)|as a (?:kid|child|baby|teen\w*)|when i was|once|finished|healed"
    r"|recovered|cleared|resolved|all gone|old",
    "now": r"since (?:this|last|yesterday|morning|noon|lunch|midnight|\d+)"
    r"|(?:minutes?|mins?|hrs?|hours?|h) (?:ago|back|now)|this (?:morning|evening|afternoon)|tonight|today|sudden(?:ly)?"
    r"|now|just|getting worse|all day|started|won'?t (?:stop|wake|go)",
    "calm": r"fine|normal|stable|well|healthy|happy|okay|ok|same as|as (?:always|usual)|for years|steady|clear|active"
    r"|playing|no symptoms?",
    "paper": r"insur\w+|form|letter|certificate|licen[cs]e|travel|flight|exam|essay|homework|course|poster|novel|quiz"
    r"|student|leaflet|vaccin\w+|jab|book|brand|prescription",
    "small": r"baby|newborn|infant|toddler|\d+ (?:days?|weeks?|wks?)(?: old)?|pregnan\w+|wks|weeks",
    "denials": r"no\b.{1,30}\bno",
    "number": r"\d+(?:\.\d+)?",
}
FINDERS = {name: re.compile(rf"(?<![\w'])(?:{words})(?![\w'])", re.IGNORECASE) for name, words in CLASSES.items()}
SIGN_FINDERS = {name: re.compile(rf"\b(?:{words})\b", re.IGNORECASE) for name, words in SIGNS.items()}
CALLS_OFF = {"past", "calm", "paper", "relative"}
LONGEST = 3  # words of an n-gram


def message_features(text: str) -> list[str]:
    """Features of a patient's message: runs of one to three words, denied words once more with their tag, and signs."""
    words: list[str] = []
    denied: list[str] = []
    for sentence in SENTENCE_END.split(_plain(text)):
        for clause in CLAUSE_END.split(sentence.lower()):
            words += [*WORD.findall(clause), "|"]
            denied += [f"not_{word}" for word, taken_back in _scoped(clause) if taken_back]
        words.append("||")
    named = [name for name, finder in SIGN_FINDERS.items() if finder.search(_plain(text))]
    pairs = [f"<{one}+{other}>" for one, other in combinations(named, 2)]
    alone = ["<now alone>"] if "now" in named and not CALLS_OFF & {*named} else []
    return [*_runs(words), *denied, *(f"<{name}>" for name in named), *pairs, *alone]


def answer_features(text: str) -> list[str]:
    """Features of a doctor's answer: runs of one to three tagged words, and the marks of each sentence."""
    found: list[str] = []
    words: list[str] = []
    for sentence in SENTENCE_END.split(_plain(text)):
        tag = _tag(sentence)
        for clause in CLAUSE_END.split(sentence.lower()):
            words += [tag + ("not_" if denied else "") + word for word, denied in _scoped(clause)]
            words.append("|")
        words.append("||")
        found += _marks(sentence, tag)
    return list(_runs(words)) + found


def _plain(text: str) -> str:
    return text.replace("’", "'")


def _tag(sentence: str) -> str:
    if sentence.rstrip().endswith("?"):
        return "q_"
    return "if_" if CONDITION.search(sentence) else ""


def _scoped(clause: str) -> Iterator[tuple[str, bool]]:
    """The words of a clause, and whether a negation stands before them in it."""
    denied = False
    for word in WORD.findall(clause):
        yield word, denied
        denied = denied or NEGATION.fullmatch(word) is not None


def _runs(words: Sequence[str]) -> Iterator[str]:
    for length in range(1, LONGEST + 1):
        for start in range(len(words) - length + 1):
            run = words[start : start + length]
            if length > 1 or run[0] not in ("|", "||"):
                yield " ".join(run)


def _marks(sentence: str, tag: str) -> Iterator[str]:
    """Classes that a sentence names, each pair of them, and two that stand for an order to be seen at once."""
    if any(NEGATION.fullmatch(word) for word in WORD.findall(sentence.lower())):
        tag += "n_"
    named = [name for name, finder in FINDERS.items() if finder.search(sentence)]
    yield from (f"<{tag}{name}>" for name in named)
    yield from (f"<{tag}{one}+{other}>" for one, other in combinations(named, 2))
    if "now" in named and {"place", "crew", "expert"} & {*named}:
        yield f"<{tag}care now>"
    if "order" in named and {"place", "crew"} & {*named} and "past" not in named:
        yield f"<{tag}sent to care>"
