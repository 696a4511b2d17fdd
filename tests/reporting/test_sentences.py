"""The sentences of the report's sections, and that both forms of the report show every one."""

from pathlib import Path

import pytest

from medsft.reporting import report, results, sentences, study
from medsft.reporting.rendering import md
from medsft.reporting.sentences import Facts
from synthetic_study import Page, arguments, dump, make_study, strict_json, write_train


def facts_of(folder: Path, **options: float) -> Facts:
    loaded, chosen = study.load_study(folder), arguments(folder, **options)
    return Facts(loaded, results.gather(loaded, "a title", "0" * 16, chosen.hourly_rate), chosen)


IN_SHORT = ("scores", "differences", "cost", "data", "not_measured", "limits")  # sections of report.md


def test_both_forms_show_every_sentence(tmp_path: Path) -> None:
    folder = make_study(tmp_path, ("baseline", "lora"))
    written, _, _ = report.write_report(arguments(folder))
    page = Page((written / "report.html").read_text(encoding="utf-8")).text
    markdown = (written / "report.md").read_text(encoding="utf-8")
    for section, lines in sentences.paragraphs(*facts_of(folder)).items():
        assert lines, section
        for line in lines:
            assert line in page and (section not in IN_SHORT or md(line) in markdown)


def test_what_was_measured_is_not_listed_as_missing(tmp_path: Path) -> None:
    folder = make_study(tmp_path, ("baseline", "lora"))
    scores = strict_json(folder / "lora" / "scores.json")
    dump(folder / "lora" / "scores.json", scores | {"memorization": {"n": 1, "groups": 1, "metrics": {}}})
    write_train(folder / "lora", 30, 0.05, 4_000_000_000)
    comparison = strict_json(folder / "comparison.json")
    seeds = {"metric": "rouge1", "method": "lora", "baseline": "baseline", "seeds": 2, "n": 44}
    dump(folder / "comparison.json", comparison | {"emergencies": {"emergencies": 3}, "seeds": [seeds]})
    left = sentences.paragraphs(*facts_of(folder, hourly_rate=1.0))["not_measured"]
    assert [line.split(":")[0] for line in left[:2]] == [
        "Energy",
        "Whether the answers are medically right, safe or kind",
    ]


@pytest.mark.parametrize("loss_on", ["everything", "the doctor's turns"])
def test_losses_over_different_tokens_are_called_incomparable(tmp_path: Path, loss_on: str) -> None:
    folder = make_study(tmp_path, ("baseline", "lora", "full"))
    for arm, tokens in (("lora", "the doctor's turns"), ("full", loss_on)):
        train = strict_json(folder / arm / "train.json")
        dump(folder / arm / "train.json", train | {"comparable": {"loss_on": tokens}})
    assert ("cannot be compared" in sentences.loss_tokens(facts_of(folder))) == (loss_on == "everything")


def test_each_arm_that_lacks_a_stage_has_a_line_of_its_own(tmp_path: Path) -> None:
    folder = make_study(tmp_path, ("baseline", "lora"))
    for arm in ("one", "two"):
        write_train(folder / arm, 10, 0.05, 0)
    comparison = strict_json(folder / "comparison.json")
    dump(folder / "comparison.json", comparison | {"comparisons": []})
    left = sentences.paragraphs(*facts_of(folder))["not_measured"]
    assert left[:3] == [
        "one: begun, but not scored (generate.py, then score.py).",
        "two: begun, but not scored (generate.py, then score.py).",
        "lora: not compared with the baseline; run score.py again.",
    ]
