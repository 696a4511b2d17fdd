"""Rules for markup, on both sides: wrongly decoded text, HTML, odd spaces, arrows of lost links.

To add one, write a function from text to text and add it to MARKUP_RULES, which are applied in order.
"""

import html
import re

import ftfy

# Repair wrongly decoded text only: entities are strip_html's, all other characters stay as they were typed.
MOJIBAKE = ftfy.TextFixerConfig(
    unescape_html=False,
    uncurl_quotes=False,
    fix_latin_ligatures=False,
    fix_line_breaks=False,
    fix_character_width=False,  # full-width punctuation is Chinese and Japanese as it should be
    normalization=None,  # it would make other characters of units: the sign of ohm, of kelvin, of angstrom
)
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
ENTITY = re.compile(r"&(?:#\d{1,6}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,20});", re.IGNORECASE)
ATTRIBUTES = r"(?:\s+[a-z-]+\s*=\s*(?:\"[^\"<>]*\"|'[^'<>]*'|[^\s<>]+))*"
BREAK_TAG = re.compile(rf"</?(?:br|p|div|li|tr|h[1-6]){ATTRIBUTES}\s*/?>", re.IGNORECASE)
TAG = re.compile(
    rf"</?(?:span|b|i|u|strong|em|a|ul|ol|table|tbody|td|th|font|img|sup|sub|hr|blockquote){ATTRIBUTES}\s*/?>",
    re.IGNORECASE,
)
# 10<sup>9</sup>/L is not 109/L, and 1<sup>1</sup>/<sub>2</sub> tablets are neither 11/2 nor 1¹/2
SUPERSCRIPT = re.compile(rf"<sup{ATTRIBUTES}\s*>(.*?)</sup\s*>", re.IGNORECASE | re.DOTALL)
FRACTION = re.compile(
    rf" ?<sup{ATTRIBUTES}\s*>\s*(\d+)\s*</sup\s*>\s*[/⁄]\s*<sub{ATTRIBUTES}\s*>\s*(\d+)\s*</sub\s*>",
    re.IGNORECASE,
)
EXPONENT = re.compile(r"[-+−–]?\d+[-+]?")
RAISED = str.maketrans("0123456789+-−–", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁻")
# Runs of blanks, but for a single plain space, which may stay; the full-width one of CJK is none.
ODD_SPACES = re.compile(r" [^\S\n\u3000]+|[^\S\n\u3000 ][^\S\n\u3000]*")
ARROW = re.compile(r"\s*(?:-{2,}>\s*<link>|<link>|(?<=online)\s*-{2,}>|-{2,}>(?=\s*(?:\n|\Z))|>>(?=\s*(?:\n|\Z)))")


def fix_mojibake(text: str) -> str:
    if text.isascii() and not CONTROL.search(text):  # there is nothing to repair, and ftfy takes 0.1 ms to say so
        return text
    return ftfy.fix_text(text, MOJIBAKE)


def strip_html(text: str) -> str:
    """Replace entities, twice for text that was escaped twice; remove known tags only, so that 'TSH <5' survives."""
    for _ in range(2):
        text = ENTITY.sub(lambda match: html.unescape(match[0]), text)
    if "<" not in text:
        return text
    text = FRACTION.sub(r" \1/\2", text)
    text = SUPERSCRIPT.sub(_raised, text)
    return TAG.sub("", BREAK_TAG.sub("\n", text))


def _raised(match: re.Match[str]) -> str:
    """What stands in <sup>, raised where it is a number; behind a digit with ^ where it only begins with one."""
    said = TAG.sub("", match[1]).strip()
    if EXPONENT.fullmatch(said):
        return said.translate(RAISED)
    behind = match.string[max(0, match.start() - 1) : match.start()].isdigit()
    return f"^{said}" if behind and EXPONENT.match(said) else said


def plain_spaces(text: str) -> str:
    """Plain spaces for no-break and other odd ones but not for the full-width one of CJK, no zero-width characters, at
    most one empty line in a row."""
    if not text.isascii() or "\r" in text or "\x00" in text:
        text = re.sub(r"\r\n?|[\u2028\u2029\x85]", "\n", text)
        text = re.sub(r"[\x00\u200b\u2060\ufeff\xad]", "", text)
    text = ODD_SPACES.sub(" ", text)
    if "\n" in text:
        text = re.sub(r"\n{3,}", "\n\n", text.replace(" \n", "\n").replace("\n ", "\n"))
    return text.strip()


def drop_dangling_arrow(text: str) -> str:
    """'consult a dermatologist online -->' points at a link that is no longer there."""
    return ARROW.sub("\n", text).strip() if ">" in text else text


MARKUP_RULES = {
    "mojibake": fix_mojibake,
    "html": strip_html,
    "spaces": plain_spaces,
    "dangling_arrow": drop_dangling_arrow,
}
