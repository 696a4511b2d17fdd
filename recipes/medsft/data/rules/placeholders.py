"""Placeholders such as [PHONE] in place of what a pattern finds, counted by kind."""

import re
from collections import Counter

# Words that follow 'Dr.' or 'I am' with a capital letter without being names.
NOT_NAMES_WORDS = """
a afraid african all also although am american an and any are as asian ask at august be because been before black both
british but by call can check could currently dear december diabetic did do doctor doctors does dr february female for
friday from further general get give go god good had has have having he hello help her hi his hope how i if in indian
is it its january just kindly last let like living ma'am madam male march married may maybe me monday most my need new
no not november now october of office on one only or our out patient please pregnant rather respected right said
saturday say see seek september she should since sir so some sorry still suffering sunday take tell thank thanks that
the their them then there they this throat thursday to today told too try tuesday type very was we wednesday well were
what when where which white who why will with without working worried would yes yesterday you your
"""
NOT_NAMES = frozenset(NOT_NAMES_WORDS.split())


def replace(pattern: re.Pattern[str], kind: str, text: str, counts: Counter[str]) -> str:
    """Replace every match of the pattern, whatever stands around it."""
    text, number = pattern.subn(f"[{kind}]", text)
    counts[kind] += number
    return text


def replace_after(pattern: re.Pattern[str], kind: str, text: str, counts: Counter[str], look: int = 2) -> str:
    """Replace what follows the pattern's first group, unless one of its first `look` words cannot be a name."""

    def placeholder(match: re.Match[str]) -> str:
        words = re.findall(r"[a-zß-ÿ'’]+", match[0][len(match[1]) :].lower())[:look]
        if any(word in NOT_NAMES or word.endswith("ing") for word in words if word != "dr"):
            return match[0]
        counts[kind] += 1
        return f"{match[1]}[{kind}]"

    return pattern.sub(placeholder, text)
