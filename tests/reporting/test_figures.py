"""What the figures draw: every arm and naive baseline, and a note where nothing was recorded."""

from pathlib import Path

import pytest

from medsft.reporting import figures, results, study
from synthetic_study import NAIVE_BASELINES, PRIMARY, make_study


@pytest.fixture
def loaded(tmp_path: Path) -> study.Study:
    return study.load_study(make_study(tmp_path, ("baseline", "lora", "full")))


def test_losses_have_a_line_for_each_trained_arm_and_split(loaded: study.Study) -> None:
    upper, lower = figures.losses(loaded).axes
    assert [line.get_label() for line in upper.get_lines()] == ["lora", "full"]
    assert len(upper.get_lines()[0].get_xdata()) == 30 and len(lower.get_lines()[0].get_xdata()) == 7


def test_scores_name_arms_and_naive_baselines_beside_every_primary_metric(loaded: study.Study) -> None:
    panels = figures.scores(results.gather(loaded, "", "", None)).axes
    names = [text.get_text() for text in panels[0].get_yticklabels()]
    assert names == ["baseline", "lora", "full", *(f"naive: {name}" for name in NAIVE_BASELINES)]
    assert [len(panel.get_lines()) for panel in panels] == [2 * len(names)] * len(PRIMARY)  # interval and mean


def test_lengths_that_were_not_recorded_leave_a_note(loaded: study.Study) -> None:
    loaded.data["lengths"], loaded.data["arguments"] = [], {}
    (axes,) = figures.lengths(loaded.data).axes
    assert [text.get_text() for text in axes.texts] == ["no lengths were recorded"]


def test_known_arms_look_the_same_in_every_study_and_no_two_alike() -> None:
    looks = figures.arm_looks(["mine", "lora"])
    assert looks["lora"] == figures.arm_looks(["lora"])["lora"]
    seeds = figures.arm_looks(["mine_seed2", "lora_seed3", "mine"])
    assert seeds["lora_seed3"] == seeds["lora"] and seeds["mine_seed2"] == seeds["mine"]
    assert [looks[name]["color"] for name in ("baseline", "lora", "qlora", "full")] == [*figures.COLOURS[:4]]
    many = figures.arm_looks(f"arm {number}" for number in range(40))
    assert len({(look["color"], look["marker"]) for look in many.values()}) == len(many)
