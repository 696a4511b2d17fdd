"""The numbers of the data report add up, row by row."""

from collections import Counter

import pyarrow
import pytest
from datasets import Dataset

from corpus import turns
from medsft.data.data_report import SplitRows, Tables, count_rows, shared_groups, tally, token_counts
from medsft.data.groups.grouping import Row
from medsft.data.reading.dialogue import Rejected


@pytest.fixture
def tables() -> Tables:
    """Five rows: one dropped by cleaning, one over the token budget, one an exact copy, two kept."""
    read = Dataset.from_dict({"source": ["a", "a", "b", "b", "b"], "repairs": [["merged_turns"], [], [], [], []]})
    cleaned = Dataset.from_dict(
        {
            "dropped": ["", "boilerplate_only", "", "", ""],
            "fired": [["html"], [], [], [], []],
            "language": ["en", "en", "zh", "und", "en"],
            "script": ["LATIN", "LATIN", "HAN", "LATIN", "LATIN"],
        }
    )
    keys = Dataset.from_dict({"answers": [["1"], ["2"], ["3"], ["4"], ["5"]]})
    redacted = Dataset.from_dict(
        {"dropped": [""] * 5, "fired": [["sign_off"], [], [], [], []], "redacted": [["DOCTOR"], [], [], [], []]}
    )
    fitted = Dataset.from_dict(
        {
            "messages": [turns("a", "b")] * 5,
            "prompt_tokens": [10, 0, 20, 30, 0],
            "answer_tokens": [5, 0, 6, 7, 0],
            "shortened": [False, False, True, False, False],
            "broken": [False, False, True, False, False],
        }
    )
    return Tables(read, cleaned, redacted, redacted, keys, fitted)


def test_every_row_is_kept_or_dropped_for_a_reason(tables: Tables) -> None:
    remaining = [Row(n, digest, "ab"[n > 1]) for n, digest in ((0, "x"), (2, "y"), (3, "y"), (4, "z"))]
    unique = [remaining[0], remaining[1], remaining[3]]
    parts = {"train": [remaining[0]._replace(group="g")], "dev": [], "test": [remaining[1]._replace(group="h")]}
    rejected = [Rejected("a.csv", 9, "doctor", "null", "a")]
    counts = count_rows(tables, rejected, SplitRows(remaining, unique, Counter(), parts, "near_official_split", []))
    assert (counts["rows_read"], counts["rows_kept"]) == (6, 2)
    assert counts["dropped"] == {"boilerplate_only": 1, "exact_duplicate": 1, "null": 1, "over_budget": 1}
    assert counts["repaired"] == {"control_tokens": 1, "html": 1, "merged_turns": 1, "sign_off": 1}
    assert counts["redacted"] == {"DOCTOR": 1}
    assert counts["tokens"]["test"] == {"prompt": 20, "answer": 6, "total": 26, "max": 26}
    assert counts["lengths"] == [15] and counts["truncated"] == {"prompt": 1, "answer": 0}
    assert counts["answers"] == {"train": {"with_loss": 1, "times": 1}, "dev": {"with_loss": 0, "times": 0}}
    assert counts["languages"] == {"en": 3, "und": 1, "zh": 1} and counts["scripts"] == {"HAN": 1, "LATIN": 4}
    assert counts["english_rules"]["rows_left_alone"] == 1
    assert counts["sources"]["a"] == {"read": 3, "rejected": 1, "exact": 0, "near": 0, "kept": 1}
    assert counts["sources"]["b"] == {"read": 3, "rejected": 0, "exact": 1, "near": 0, "kept": 1}


def test_sums_and_shared_groups() -> None:
    assert tally(pyarrow.chunked_array([["a", "", "a"], ["b"]])) == {"a": 2, "b": 1}
    assert token_counts([], []) == {"prompt": 0, "answer": 0, "total": 0, "max": 0}
    rows = {"train": [Row(0, "x", "a", group="g")], "test": [Row(1, "y", "a", group="g"), Row(2, "z", "a", group="h")]}
    assert shared_groups(rows) == 1
