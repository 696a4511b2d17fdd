"""The pages that people read, and the commands, options and paths that they name."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from conftest import ROOT

DOCS = ROOT / "docs"
TOP = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
PAGES = [*TOP, *sorted(DOCS.rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.S | re.M)
COMMENT = re.compile(r"(?:^|\s)#\s.*")
MAKE = re.compile(r"(?:^|[\s'\"(])make((?: +(?:[a-z][a-z-]*|[A-Z_]+=(?:\"[^\"]*\"|\S*)))+)(?=['\")\s]|$)")
OTHER_COMMAND = re.compile(r"\s*(?:&&|;|\||\n)\s*")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def lines(page: Path) -> list[str]:
    """The lines of a page's bash blocks, continued ones as one, without comments."""
    blocks = [body for language, body in FENCE.findall(text_of(page)) if language == "bash"]
    whole = [COMMENT.sub("", line).strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in whole if line]


def spans(page: Path) -> list[str]:
    """What stands in `backquotes` outside of blocks, on one line each."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", FENCE.sub("", text_of(page)))]


def code(page: Path) -> list[str]:
    """Every command of a page: of its blocks and of its text."""
    return [part for line in [*lines(page), *spans(page)] for part in OTHER_COMMAND.split(line) if part]


def make_words(command: str) -> list[str]:
    """The targets and variables of each `make ...` in a command, also inside another one (docker run ... make demo)."""
    found = []
    for match in re.finditer(
        r"(?:^|[\s'\"(])make((?: +(?:[a-z][a-z-]*|[A-Z_]+=(?:\"[^\"]*\"|\S*)))+)(?=['\")\s]|$)", command
    ):
        found += shlex.split(match[1])
    return found


def script_call(command: str) -> tuple[list[str], str, list[str]] | None:
    """(words before, script, its options) of a command that runs one of recipes/; None for any other."""
    try:
        words = shlex.split(command.replace('"$', "$"))
    except ValueError:  # half of what a shell inside is given in quotes
        words = command.replace("'", " ").split()
    at = next((i for i, word in enumerate(words) if re.fullmatch(r"recipes/\w+\.py", word)), None)
    if at is None:
        return None
    return words[:at], words[at].removeprefix("recipes/"), words[at + 1 :]


def headings(page: Path) -> set[str]:
    """Anchors of a page's headings, as Markdown's toc makes them."""
    found = re.findall(r"^#+ (.*)$", FENCE.sub("", text_of(page)), flags=re.M)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", head).strip().lower()) for head in found}


def links(page: Path) -> Iterator[str]:
    """Targets of a page's links and pictures."""
    yield from re.findall(r"!?\[[^\]]*\]\(([^)\s]+)\)", FENCE.sub("", text_of(page)))


def tables(page: Path) -> Iterator[list[list[str]]]:
    """The tables of a page: rows of cells, the head first and without the line below it."""
    for block in re.findall(r"(?:^\|.*\n)+", text_of(page), flags=re.M):
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
        yield [row for row in rows if not all(set(cell) <= set("-: ") for cell in row) or not any(row)]
