"""Superiority, non-inferiority and equivalence of an arm on one metric, by an interval and a margin fixed before.

The interval decides (Piaggio et al. 2012, CONSORT extension): a two-sided one of 95 % tests non-inferiority at 2.5 %.
"""

from typing import Literal

from medsft.errors import UserError

Quality = Literal["superior", "equivalent", "non-inferior", "inconclusive", "worse", "inferior"]


def quality(low: float | None, high: float | None, margin: float, direction: int) -> Quality:
    """What the interval of arm minus baseline says. `direction`: 1 where more is better, -1 where less is.

    superior: above 0. equivalent: within the margin on both sides. non-inferior: above -margin. worse: below 0, though
    perhaps by less than the margin. inferior: below -margin. Else inconclusive, as without an interval.
    """
    if low is None or high is None:
        return "inconclusive"
    worst, best = (low, high) if direction > 0 else (-high, -low)
    if worst > 0:
        return "superior"
    if worst > -margin:
        return "equivalent" if best < margin else "non-inferior"
    if best < -margin:
        return "inferior"
    return "worse" if best < 0 else "inconclusive"


def read_margins(written: list[str]) -> dict[str, float]:
    """{metric: margin} of 'metric=number' each. Raises UserError for anything else."""
    margins = {}
    for text in written:
        name, _, value = text.partition("=")
        try:
            margins[name.strip()] = float(value)
        except ValueError as error:
            raise UserError(f"margins: '{text}': write a metric and a number, such as rouge1=0.02") from error
        if not 0 < margins[name.strip()] < float("inf"):
            raise UserError(f"margins: '{text}': give a number above 0, on the metric's own scale")
    return margins
