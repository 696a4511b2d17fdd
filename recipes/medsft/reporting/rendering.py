"""How numbers and texts are written in reports, cards and pages: jinja2 with this project's filters."""

import base64
import difflib
import hashlib
import html
import re
from pathlib import Path
from typing import NamedTuple

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from medsft.records import Summary
from medsft.reporting.summary import metric_groups
from medsft.reporting.verdict import outcome
from medsft.study import look
from medsft.text import count, gb, interval, label, number, pvalue

TEMPLATES = Path(__file__).parent / "templates"
SCRIPT = (TEMPLATES / "sort.js").read_text(encoding="utf-8")


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
    made.filters |= {"metric_head": metric_groups.head, "metric_meaning": metric_groups.meaning}
    made.globals |= {"colours": Markup(look.variables()), "script": Markup(SCRIPT), "script_hash": script_hash()}
    made.filters |= {"md": md, "yaml": as_yaml, "compared_with": lambda new, old: differences(old, new)}
    return made


def script_hash() -> str:
    """The inline script as a Content-Security-Policy names it: no other script runs on the page."""
    return "sha256-" + base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode("ascii")


def md(value: object) -> str:
    """One line of Markdown that shows the text itself: no HTML, no table cell, no emphasis, no link, no image."""
    flat = html.escape(" ".join(str(value).split()), quote=False)
    return re.sub(r"([\\`*_\[\]#|~])", r"\\\1", flat)


def cut_share(system: Summary) -> str:
    """The share of answers that ran into the limit of new tokens; '–' where that was not scored."""
    ended = system["metrics"].get("end_of_turn")
    return f"{100 * (1 - ended['mean']):.0f} %" if ended else "–"


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
