"""Human labels helped by a model's: bias cancels, intervals cover and shrink, rows of one group count together."""

import numpy as np
import pytest

from medsft.evaluation.statistics.prediction_powered import Labelled, corrected_mean


def study(generator, groups=60, each=3, labelled_groups=20, skill=0.8, bias=0.3):
    """Preferences of -1 to 1 alike within groups, and a model that sees most of each but is biased."""
    rows = []
    for group in range(groups):
        common = generator.normal()
        for _ in range(each):
            true = float(np.clip(0.2 + 0.4 * common + 0.4 * generator.normal(), -1, 1))
            model = skill * true + (1 - skill) * generator.normal() + bias
            rows.append(Labelled(group, model, true if group < labelled_groups else None))
    return rows


@pytest.mark.parametrize("skill", [0.9, 0.0])
def test_intervals_cover_whatever_the_model_is_worth(skill):
    generator = np.random.default_rng(1)
    truth = np.mean([row.people for row in study(generator, 20_000, 3, 20_000)])
    found = [corrected_mean(study(generator, skill=skill), 0.95) for _ in range(600)]
    covered = np.mean([row["low"] <= truth <= row["high"] for row in found])
    assert 0.92 <= covered <= 0.985
    assert np.mean([row["mean"] for row in found]) == pytest.approx(truth, abs=0.02)
    assert skill == 0 or np.mean([row["model_alone"] for row in found]) > truth + 0.2


def test_a_good_model_narrows_the_interval_and_a_useless_one_gets_no_weight():
    generator = np.random.default_rng(2)
    rows = study(generator, 200, 3, 20, skill=0.95)
    people = corrected_mean([row for row in rows if row.people is not None], 0.95)
    helped = corrected_mean(rows, 0.95)
    assert helped["high"] - helped["low"] < 0.7 * (people["high"] - people["low"])
    assert people["weight"] == 0 and people["mean"] == pytest.approx(people["people_alone"])
    noise = [row._replace(model=float(generator.normal())) for row in rows]
    assert corrected_mean(noise, 0.95)["weight"] < 0.4


def test_few_labelled_groups_have_no_interval_and_none_has_no_mean():
    rows = study(np.random.default_rng(3), labelled_groups=9)
    found = corrected_mean(rows, 0.95)
    assert (found["low"], found["high"], found["labelled"], found["unlabelled"]) == (None, None, 27, 153)
    assert corrected_mean([row._replace(people=None) for row in rows], 0.95) is None


def test_rows_of_one_group_are_not_independent():
    rows = study(np.random.default_rng(4), each=6)
    alone = [row._replace(group=at) for at, row in enumerate(rows)]
    grouped, single = (corrected_mean(some, 0.95) for some in (rows, alone))
    assert grouped["mean"] == pytest.approx(single["mean"])
    assert grouped["high"] - grouped["low"] > 1.2 * (single["high"] - single["low"])
