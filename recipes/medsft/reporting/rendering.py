"""How numbers and texts are written in reports, cards and pages: jinja2 with this project's filters."""

import base64
import difflib
import html
import re
from pathlib import Path
from typing import NamedTuple

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from medsft.records import Summary
from medsft.reporting.verdict import outcome
from medsft.text import count, gb, interval, label, number, pvalue

TEMPLATES = Path(__file__).parent / "templates"
SHORT = 300  # characters of an example's text in report.md


class Piece(NamedTuple):
    """A run of text; `kind` is 'same', 'added' (only in the new text) or 'removed' (only in the old one)."""

    kind: str
    text: str


def environment(autoescape: bool) -> Environment:
    """Templates of this project; HTML with `autoescape`, Markdown without (there the filter `md` escapes)."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"label": label, "number": number, "interval": interval, "gb": gb, "pvalue": pvalue, "count": count}
    made.filters |= {"cut": cut_share, "outcome": outcome}
    made.filters |= {"md": md, "clip": clip, "yaml": as_yaml, "compared_with": lambda new, old: differences(old, new)}
    return made


def md(value: object) -> str:
    """One line of Markdown that shows the text itself: no HTML, no table cell, no emphasis, no link, no image."""
    flat = html.escape(" ".join(str(value).split()), quote=False)
    return re.sub(r"([\\`*_\[\]#|~])", r"\\\1", flat)


def cut_share(system: Summary) -> str:
    """The share of answers that ran into the limit of new tokens; '–' where that was not scored."""
    ended = system["metrics"].get("end_of_turn")
    return f"{100 * (1 - ended['mean']):.0f} %" if ended else "–"


def clip(text: str) -> str:
    return text if len(text) <= SHORT else text[: SHORT - 1].rstrip() + "…"


def as_yaml(value: object) -> str:
    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True))


def data_uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def differences(old: str, new: str) -> list[Piece]:
    """The pieces of `new` in order, with what it lacks of `old` between them, word by word (difflib).

    The pieces that are not 'removed' give `new` back, those that are not 'added' give `old`.
    """
    before, after = _words(old), _words(new)
    pieces: list[Piece] = []
    for kind, i, j, k, m in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind == "equal":
            pieces.append(Piece("same", "".join(after[k:m])))
            continue
        pieces += [Piece("removed", "".join(before[i:j]))] if j > i else []
        pieces += [Piece("added", "".join(after[k:m]))] if m > k else []
    return pieces


def _words(text: str) -> list[str]:
    """Words, each with the blanks before it, so that joining gives the text back."""
    return re.findall(r"\s*\S+|\s+", text)
