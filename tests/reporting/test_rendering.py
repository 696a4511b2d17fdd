"""Texts in reports: escaped Markdown, and word differences that mark nothing that is the same."""

from hypothesis import given
from hypothesis import strategies as st

from medsft.reporting.rendering import differences, md

TEXT = st.text(alphabet="ab <&\n\t", max_size=60)


@given(TEXT, TEXT)
def test_pieces_give_both_texts_back(old: str, new: str) -> None:
    pieces = differences(old, new)
    assert "".join(piece.text for piece in pieces if piece.kind != "removed") == new
    assert "".join(piece.text for piece in pieces if piece.kind != "added") == old


def test_only_the_changed_words_are_marked() -> None:
    pieces = differences("Rest and drink water.", "Rest and see a doctor.")
    assert "".join(piece.text for piece in pieces if piece.kind == "added") == " see a doctor."
    assert pieces[0] == ("same", "Rest and")
    assert [p.kind for p in differences("same words", "same words")] == ["same"]


@given(st.text(max_size=80))
def test_markdown_escape_leaves_no_markup_and_no_new_line(text: str) -> None:
    escaped = md(text)
    assert "<" not in escaped and len(escaped.splitlines()) <= 1
    plain = escaped.replace("\\\\", "")
    for sign in "|*_`[]":
        assert plain.count(sign) == plain.count("\\" + sign)
