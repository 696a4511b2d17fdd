"""Checks of prepare_data.py's options, before anything is read."""

import math
from collections.abc import Iterable

from medsft.arguments import DataArguments
from medsft.config import nearest
from medsft.data.reading.row_schemas import parse_columns
from medsft.data.rules.cleaning import RULES as CLEANING_RULES
from medsft.data.rules.deidentification import LEVELS
from medsft.data.rules.deidentification import RULES as IDENTIFIER_RULES
from medsft.errors import UserError
from medsft.tokenization.system_turns import CHOICES


def check_options(args: DataArguments) -> None:
    """Raise UserError for options that no data can satisfy, and for unknown names."""
    fractions = [args.dev_fraction, args.test_fraction, args.near_duplicate, args.max_rejected, *args.weights]
    if not all(map(math.isfinite, fractions)):
        raise UserError("dev_fraction, test_fraction, near_duplicate, max_rejected and weights must be finite numbers")
    if not 0 <= args.seed < 2**32 or args.preview < 0:
        raise UserError("seed must be between 0 and 4294967295, and preview at least 0")
    if args.deid_level not in LEVELS:
        raise UserError(f"deid_level: '{args.deid_level}' is not known: {nearest(args.deid_level, LEVELS)}")
    if args.system_turns not in CHOICES:
        raise UserError(f"system_turns: '{args.system_turns}' is not known: {nearest(args.system_turns, CHOICES)}")
    if args.max_length < 1 or (args.max_rows is not None and args.max_rows < 1):
        raise UserError("max_length and max_rows must be at least 1")
    if min(args.dev_fraction, args.test_fraction) <= 0 or args.dev_fraction + args.test_fraction >= 1:
        raise UserError("dev_fraction and test_fraction must be above 0 and together below 1")
    if not 0 < args.near_duplicate <= 1 or not 0 <= args.max_rejected <= 1:
        raise UserError("near_duplicate must be above 0 and at most 1, max_rejected between 0 and 1")
    if args.split not in ("groups", "study"):
        raise UserError(f"split: '{args.split}' is not known; 'groups' keeps duplicates together, 'study' does not")
    if args.workers is not None and args.workers < 1:
        raise UserError("workers must be at least 1")
    for name in args.skip_rules:
        known = ["all", *CLEANING_RULES, *IDENTIFIER_RULES]
        if name not in known:
            raise UserError(f"skip_rules: no rule '{name}': {nearest(name, known)}")
    parse_columns(args.columns)


def skipped(args: DataArguments, rules: Iterable[str]) -> list[str]:
    """Which of these rules are to be left out."""
    return sorted(rules) if "all" in args.skip_rules else sorted({*args.skip_rules} & {*rules})
