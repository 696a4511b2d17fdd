"""Contrast of every pair of colours, light and dark, by the formula of WCAG 2.2."""

import pytest

from medsft.study import look


@pytest.mark.parametrize(("one", "other", "ratio"), [("#000000", "#ffffff", 21.0), ("#777777", "#ffffff", 4.48)])
def test_known_ratios(one: str, other: str, ratio: float) -> None:
    assert (
        look.contrast(one, other)
        == pytest.approx(ratio, abs=0.005)
        == pytest.approx(look.contrast(other, one), abs=0.005)
    )


@pytest.mark.parametrize("colours", [look.LIGHT, look.DARK], ids=["light", "dark"])
@pytest.mark.parametrize(("one", "other", "least"), look.PAIRS)
def test_every_pair_can_be_read(colours: dict[str, str], one: str, other: str, least: float) -> None:
    assert look.contrast(colours[one], colours[other]) >= least


def test_both_sets_name_the_same_colours_and_print_is_light() -> None:
    assert look.LIGHT.keys() == look.DARK.keys()
    assert {name for one, other, _ in look.PAIRS for name in (one, other)} | {"line"} == set(look.LIGHT)
    css = look.variables()
    assert css.index(look.DARK["page"]) < css.index("@media print") < css.rindex(look.LIGHT["page"])
