"""Where an arm's answer departs from another: words marked for the report's examples."""

import difflib
import re
from typing import NamedTuple


class Piece(NamedTuple):
    """A run of text; `kind` is 'same', 'added' (only in the new text) or 'removed' (only in the old one)."""

    kind: str
    text: str


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
