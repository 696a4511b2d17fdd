"""The model card as the Hub reads it, before and after the evaluation."""

import html
import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from medsft.errors import UserError
from medsft.evaluation.completeness import offline, validation
from medsft.files import read_json
from medsft.reporting import model_card
from medsft.reporting.report import write_report
from synthetic_study import HOSTILE, SIZE, arguments, dump, make_study


def test_before_the_evaluation_the_card_says_so(tmp_path: Path) -> None:
    study = make_study(tmp_path, ("baseline", "lora"))
    (study / "lora" / "adapter").mkdir()
    path = model_card.write(study / "lora")
    card = ModelCard.load(path)
    assert "Not evaluated yet" in card.text and card.data.eval_results is None
    assert (study / "lora" / "adapter" / "README.md").read_text() == path.read_text()  # the Hub shows it
    assert "360 rows read, 320 kept" in card.text and "name 24" in card.text
    assert "Not medical advice" in card.text and "Not for patients" in card.text


def test_after_the_report_every_arm_and_the_study_have_their_scores(tmp_path: Path) -> None:
    study = make_study(tmp_path, ("baseline", "lora", "full"))
    _, results, _ = write_report(arguments(study))
    card = ModelCard.load(study / "lora" / "README.md")
    values = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert values["rouge1"] == pytest.approx(results["arms"]["lora"]["metrics"]["rouge1"]["mean"], abs=1e-4)
    assert f"n = {SIZE}" in card.data.eval_results[0].metric_name
    assert "0.260 \\[0.245, 0.275\\]" in card.text and "naive baseline: nearest" in card.text
    whole = ModelCard.load(study / "report" / "model_card.md")
    assert {result.metric_name.split("(")[1].split(",")[0] for result in whole.data.eval_results} == {"lora", "full"}


def test_completeness_is_never_shown_without_its_agreement_with_physicians(tmp_path: Path) -> None:
    study = make_study(tmp_path, ("baseline", "lora"))
    comparison = read_json(study / "comparison.json")
    accuracy = read_json(offline.FILE)["card"]["accuracy"]
    comparison["settings"] |= {"completeness": {"read_by": "offline reading", "accuracy": accuracy}}
    dump(study / "comparison.json", comparison)
    folder, _, _ = write_report(arguments(study))
    said = validation.in_short(comparison["settings"]["completeness"])
    assert "agrees with most physicians on 76% of 210 statements, Cohen's kappa 0.47 [0.30, 0.62]" in said
    assert "physicians find 35% not said: scores can be too good" in said
    card = (study / "lora" / "README.md").read_text().replace("\\", "")
    assert said in html.unescape((folder / "report.html").read_text()) and said in card
    assert said in (folder / "report.md").read_text().replace("\\", "")
    comparison["settings"]["completeness"]["accuracy"] = None
    dump(study / "comparison.json", comparison)
    write_report(arguments(study))
    assert "was not measured on physicians' labels" in (study / "lora" / "README.md").read_text()


def test_a_study_of_the_untrained_model_alone_has_no_card(tmp_path: Path) -> None:
    study = make_study(tmp_path, ("baseline",))
    folder, results, _ = write_report(arguments(study))
    assert not (folder / "model_card.md").exists()
    with pytest.raises(UserError, match="no arm was trained"):
        model_card.study_card(study, results)


def test_no_folder_of_this_machine_and_no_markup_gets_into_a_card(tmp_path: Path) -> None:
    study = make_study(tmp_path, ("baseline", "lora"))
    train = json.loads((study / "lora" / "train.json").read_text())
    (study / "lora" / "train.json").write_text(json.dumps(train | {"base_model": str(tmp_path / "secret" / "mine")}))
    report = json.loads((study / "data" / "data_report.json").read_text())
    report["arguments"]["data"] = f"/home/someone/{HOSTILE.replace('/', ' ')}.jsonl"
    (study / "data" / "data_report.json").write_text(json.dumps(report))
    text = model_card.write(study / "lora").read_text()
    assert "secret" not in text and "/home/someone" not in text and "<script" not in text
    assert "mine" in text
