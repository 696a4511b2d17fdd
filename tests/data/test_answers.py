"""Each answer of a doctor carries loss once."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from corpus import turns
from medsft.data.groups.answers import answers_once, count_answers
from medsft.data.groups.group_keys import group_keys
from medsft.data.groups.grouping import Row

CONVERSATION = [f"{who} {number}" for number in range(12) for who in ("my knee hurts", "which")]


@settings(deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=6, unique=True), st.integers(1, 12))
def test_every_answer_carries_loss_once(lengths: list[int], budget: int) -> None:
    """Rows of one conversation, the first n exchanges each, of which the token budget leaves the last `budget`."""
    keys = [group_keys(turns(*CONVERSATION[: 2 * n]))["answers"] for n in lengths]
    rows = [Row(position, str(position), "a") for position in range(len(lengths))]
    taken, left = answers_once(rows, keys.__getitem__, lambda position: min(budget, lengths[position]))
    assert sorted([*taken, *left]) == rows and taken == sorted(taken)
    carried = Counter(key for row in taken for key in keys[row.position][-budget:])
    assert set(carried.values()) == {1} and keys[lengths.index(max(lengths))][-1] in carried
    if sorted(lengths) == [*range(1, len(lengths) + 1)]:  # a row for each answer, as in MTS-Dialog: none is left out
        assert len(carried) == len(lengths)
    counts = count_answers(taken, keys.__getitem__, lambda position: min(budget, lengths[position]))
    assert counts == {"with_loss": len(carried), "times": carried.total()}


def test_other_conversations_are_not_touched() -> None:
    keys = [["a"], ["b"], ["a", "c"]]
    rows = [Row(n, str(n), "s") for n in range(3)]
    taken, left = answers_once(rows, keys.__getitem__, lambda position: len(keys[position]))
    assert ([row.position for row in taken], [row.position for row in left]) == ([1, 2], [0])
