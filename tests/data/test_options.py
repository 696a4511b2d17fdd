"""Options that no data can satisfy are refused before anything is read."""

from typing import Any

import pytest

from medsft.arguments import DataArguments
from medsft.data.options import check_options, skipped
from medsft.errors import UserError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_rows": 0}, "max_rows must be at least 1"),
        ({"test_fraction": 0.0}, "above 0"),
        ({"max_rejected": -0.1}, "max_rejected between 0 and 1"),
        ({"split": "random"}, "split: 'random' is not known"),
        ({"workers": 0}, "workers must be at least 1"),
        ({"skip_rules": ["phones"]}, "no rule 'phones': did you mean 'phone'"),
        ({"columns": "patient"}, "expected patient=COLUMN"),
    ],
)
def test_an_impossible_option_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_options(DataArguments(**changes))


def test_skipped_rules_are_those_of_one_kind() -> None:
    check_options(DataArguments())
    args = DataArguments(skip_rules=["phone", "html"])
    assert skipped(args, ["html", "spaces"]) == ["html"]
    assert skipped(DataArguments(skip_rules=["all"]), ["spaces", "html"]) == ["html", "spaces"]
