"""Cleaning of online consultations by named, counted rules (markup.py, courtesy.py)."""

from collections.abc import Collection
from typing import NamedTuple

from medsft.data.reading.dialogue import arrange
from medsft.data.reading.row_fields import INVISIBLE
from medsft.data.rules.courtesy import COURTESY_RULES, GREETING
from medsft.data.rules.markup import MARKUP_RULES, plain_spaces
from medsft.records import Turn

RULES = (*MARKUP_RULES, *COURTESY_RULES, "boilerplate_only")


class Change(NamedTuple):
    """What one rule did to one turn."""

    rule: str
    before: str
    after: str


def clean(turns: list[Turn], skip: Collection[str] = ()) -> tuple[list[Turn] | None, list[str]]:
    """The turns after every rule not in `skip`, with the names of the rules that changed them.

    None where nothing is left of the last answer: then the only name is the reason, 'boilerplate_only' or
    'empty_after_cleaning'.
    """
    fired: list[str] = []
    cleaned: list[Turn] = []
    for turn in turns:
        text, names = clean_text(turn["content"], turn["role"], skip)
        if turn["role"] == "assistant" and COURTESY_RULES.keys() & set(names) and GREETING.fullmatch(text):
            text = turn["content"] if "boilerplate_only" in skip else ""
        fired += names
        cleaned.append({**turn, "content": text})
    if not INVISIBLE.sub("", cleaned[-1]["content"]):
        return None, ["boilerplate_only" if turns[-1]["content"].strip() and fired else "empty_after_cleaning"]
    kept, repairs = arrange([turn for turn in cleaned if INVISIBLE.sub("", turn["content"])])
    if not kept:
        return None, ["empty_after_cleaning"]
    return kept, sorted({*fired, *repairs})


def clean_text(text: str, role: str, skip: Collection[str] = ()) -> tuple[str, list[str]]:
    """One turn after the rules of its role, and the names of those that changed it."""
    made = changes(text, role, skip)
    return (made[-1].after if made else text), [change.rule for change in made]


def changes(text: str, role: str, skip: Collection[str] = ()) -> list[Change]:
    """What each rule that changed the text of a turn did to it, in order."""
    made: list[Change] = []
    tidied = False
    for name, rule in (MARKUP_RULES | COURTESY_RULES if role == "assistant" else MARKUP_RULES).items():
        if name in skip:
            continue
        changed = rule(text)
        tidied = tidied or name == "spaces"
        if changed != text and tidied:
            changed = plain_spaces(changed)
        if changed != text:
            made.append(Change(name, text, changed))
        text = changed
    return made
