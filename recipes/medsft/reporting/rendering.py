"""How numbers and texts are written in reports, cards and pages, and the jinja2 environment that knows these ways."""

import base64
import html
import re
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from medsft.text import count, gb, interval, label, number, pvalue

TEMPLATES = Path(__file__).parent / "templates"
SHORT = 300  # characters of an example's text in report.md


def environment(autoescape: bool) -> Environment:
    """Templates of this project; HTML with `autoescape`, Markdown without (there the filter `md` escapes)."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        label=label, number=number, interval=interval, gb=gb, pvalue=pvalue, count=count, md=md, clip=clip, yaml=as_yaml
    )
    return made


def md(value: Any) -> str:
    """One line of Markdown that shows the text itself: no HTML, no table cell, no emphasis, no link, no image."""
    flat = html.escape(" ".join(str(value).split()), quote=False)
    return re.sub(r"([\\`*_\[\]#|~])", r"\\\1", flat)


def clip(text: str) -> str:
    return text if len(text) <= SHORT else text[: SHORT - 1].rstrip() + "…"


def as_yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)


def data_uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
