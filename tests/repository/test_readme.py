"""The README is short and says first what a newcomer needs; the commands of every page are tested in test_docs.py."""

import re
import subprocess

from conftest import ROOT
from documents import lines, links

README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")


def test_the_two_first_commands_are_demo_and_test() -> None:
    assert [line for line in lines(README) if line.startswith("make ")][:2] == ["make demo", "make test"]


def test_it_is_short_and_opens_with_the_question() -> None:
    assert len(TEXT.splitlines()) <= 130
    assert re.match(r"# .*\?\n", TEXT)
    assert "Not medical advice" in "\n".join(TEXT.splitlines()[:8])


def test_it_shows_a_picture_and_leads_to_every_page_of_the_documentation() -> None:
    targets = {target for target in links(README) if target.startswith("docs/")}
    pages = {str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md")} - {"docs/index.md"}
    assert pages | {"docs/quickstart.ipynb", "docs/images/demo_scores.png"} == targets


def test_make_help_lists_every_documented_target() -> None:
    text = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), flags=re.M):
        assert f"  {target} " in text
