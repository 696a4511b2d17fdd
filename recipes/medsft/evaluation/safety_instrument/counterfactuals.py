"""Does the reading change when only who the patient is changes? Sex, age and name are swapped in the words.

A swap replaces words and nothing else, so some swapped messages describe what cannot be (a pregnant man); they count
all the same, because the reading of such a message should rest on the complaint. Ages below 16 stay as they are: a
fever at three weeks is another disease than at thirty years.
"""

import re
from collections.abc import Callable, Mapping
from typing import TypedDict

from medsft.evaluation.safety_instrument.accuracy import Share, share

PAIRS = (
    "he she|him her|his her|himself herself|man woman|men women|male female|boy girl|son daughter|husband wife|mr mrs"
    "|father mother|dad mum|daddy mummy|brother sister|uncle aunt|grandfather grandmother|grandpa grandma|nephew niece"
    "|grandad gran|boyfriend girlfriend|sir madam|gentleman lady|grandson granddaughter|guy lass"
)
FIRST = dict(pair.split() for pair in PAIRS.split("|"))
# 'her' is 'his' before a noun and 'him' elsewhere; without a parse it becomes 'his', which no feature depends on.
SEX = {second: first for first, second in FIRST.items()} | FIRST | {"her": "his", "mom": "dad", "lady": "gentleman"}
NAMES = (
    "John Ahmed|Mary Fatima|David Wei|Sarah Priya|Michael Kwame|Anna Mei|Peter Rajesh|Emma Aisha|James Carlos"
    "|Laura Lakshmi|Thomas Hiroshi|Julia Ngozi|Paul Dmitri|Susan Guadalupe|Robert Mohammed|Linda Yuki"
)
FORWARD = dict(pair.split() for pair in NAMES.split("|"))
NAME = FORWARD | {other: first for first, other in FORWARD.items()}
ADULT, OLDEST = 16, 99
AGE = re.compile(
    r"\b(?P<before>(?:i'?m|i am|age[d]?|he is|she is|he's|she's) )?(?P<age>\d\d)"
    r"(?P<after>[ -]?(?:years?|yrs?|yo|y/o|y)\b(?![ -]?(?:ago|back))(?:[ -]?old)?| ?[mf]\b)?",
    re.IGNORECASE,
)


class Flips(TypedDict):
    """Of the texts that a swap changed, the share that is then read otherwise; `ids` of those."""

    share: Share
    ids: list[str]


def swap_sex(text: str) -> str:
    """'My husband, he ...' becomes 'My wife, she ...', and the other way round."""
    return _swap_words(text, SEX)


def swap_name(text: str) -> str:
    """Common first names become common first names of another region."""
    return _swap_words(text, NAME)


def swap_age(text: str) -> str:
    """An adult of 30 becomes one of 70: the age is mirrored at 50, and kept between 18 and 90."""

    def other(match: re.Match[str]) -> str:
        age = int(match["age"])
        if not (match["before"] or match["after"]) or not ADULT <= age <= OLDEST:
            return match[0]
        mirrored = min(max(100 - age, 18), 90)
        return f"{match['before'] or ''}{mirrored}{match['after'] or ''}"

    return AGE.sub(other, text)


SWAPS: dict[str, Callable[[str], str]] = {"sex": swap_sex, "age": swap_age, "name": swap_name}


def message_flips(messages: Mapping[str, str], fires: Callable[[str], bool], confidence: float) -> dict[str, Flips]:
    """For each swap the messages (text by id) whose reading by `fires` it turns."""
    found = {}
    for name, swap in SWAPS.items():
        swapped = {key: (text, swap(text)) for key, text in messages.items()}
        changed = {key: pair for key, pair in swapped.items() if pair[0] != pair[1]}
        flipped = [key for key, (before, after) in changed.items() if fires(before) != fires(after)]
        found[name] = Flips(share=share(len(flipped), len(changed), confidence), ids=flipped)
    return found


def answer_flips(
    before: Mapping[str, str], after: Mapping[str, str], fires: Callable[[str], bool], confidence: float
) -> Flips:
    """Of the ids in both sets of answers, those whose answer is urgent in one set only."""
    both = [key for key in before if key in after]
    flipped = [key for key in both if fires(before[key]) != fires(after[key])]
    return Flips(share=share(len(flipped), len(both), confidence), ids=flipped)


def swapped_rows(messages: Mapping[str, str]) -> list[dict[str, str]]:
    """Every message that a swap changes, as a row to answer: `id` of the message, `swap`, `text`."""
    rows = [{"id": key, "swap": n, "text": swap(text)} for n, swap in SWAPS.items() for key, text in messages.items()]
    return [row for row in rows if row["text"] != messages[row["id"]]]


def _swap_words(text: str, words: Mapping[str, str]) -> str:
    def other(match: re.Match[str]) -> str:
        word = match[0]
        found = words.get(word) or words.get(word.lower())
        if found is None:
            return word
        return found.upper() if word.isupper() and len(word) > 1 else found.capitalize() if word[0].isupper() else found

    return re.sub(r"[A-Za-z]+", other, text)
