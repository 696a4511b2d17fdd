"""Studies side by side: facts, points of the learning curve, one offline page, and what cannot be compared."""

import json
from pathlib import Path

import pytest

from conftest import run_script
from medsft.errors import UserError
from medsft.reporting import compare_studies
from medsft.reporting.report import write_report
from synthetic_study import HOSTILE, Page, arguments, make_study


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three reported studies of the same test rows; the second trained its arms on 50 rows only."""
    folders = []
    for name, limit in (("all", None), ("small", 50), ("hostile<i>$", None)):
        study = make_study(tmp_path_factory.mktemp("studies"), ("baseline", "lora"))
        study = study.rename(study.with_name(name))
        train = json.loads((study / "lora" / "train.json").read_text())
        (study / "lora" / "train.json").write_text(
            json.dumps(train | {"settings": {"max_train_rows": limit}, "seed": 7})
        )
        write_report(arguments(study, examples=1))
        folders.append(study)
    return folders


@pytest.mark.slow
def test_points_stand_at_the_rows_an_arm_was_trained_on(studies: list[Path]) -> None:
    found = compare_studies.gather(studies[:2])
    places = {(point["study"], point["arm"]): point["train_rows"] for point in found["points"]}
    assert places == {("all", "baseline"): 230, ("all", "lora"): 230, ("small", "baseline"): 50, ("small", "lora"): 50}
    assert found["points"][1]["metrics"]["rouge1"]["mean"] == pytest.approx(0.26)
    assert found["same_test_rows"] and found["studies"][0]["seeds"] == [7]
    panels = [axes for axes in compare_studies.curve(found).axes if axes.get_title(loc="left")]
    assert [axes.get_title(loc="left") for axes in panels] == ["ROUGE-1", "ROUGE-2", "ROUGE-L", "BERTScore F1"]


@pytest.mark.slow
def test_studies_of_equally_many_rows_are_drawn_beside_each_other(studies: list[Path]) -> None:
    figure = compare_studies.curve(compare_studies.gather([studies[0], studies[2]]))
    container = figure.axes[0].containers[1]
    assert [*container.lines[0].get_xdata()] == [230, 230]


@pytest.mark.slow
def test_script_writes_one_offline_page(studies: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "compare"
    done = run_script(
        "compare.py", "--studies", " ".join(map(str, studies)), "--output_dir", output, "--title", HOSTILE
    )
    assert done.returncode == 0, done.stderr
    text = (output / "compare.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == [] and page.events == [] and "script" not in page.tags and "i" not in page.tags
    assert [a for a in page.addresses if not a.startswith("data:image/png;base64,")] == []
    assert "hostile<i>$" in page.text and HOSTILE in page.text
    assert "<script" not in (output / "compare.md").read_text(encoding="utf-8")
    assert {p.name for p in output.iterdir()} == {"compare.html", "compare.md", "compare.json", "curve.png"}


def test_other_test_rows_are_pointed_out(studies: list[Path], tmp_path: Path) -> None:
    other = make_study(tmp_path, ("baseline", "lora"), hostile="another question")
    write_report(arguments(other, examples=1))
    assert not compare_studies.gather([studies[0], other])["same_test_rows"]


def test_another_encoder_or_decoding_is_pointed_out(studies: list[Path], tmp_path: Path) -> None:
    alike = compare_studies.gather(studies[:2])
    assert alike["scored_otherwise"] == []
    alike["studies"][1]["scored"] = alike["studies"][1]["scored"] | {"encoder of BERTScore": "roberta-large, layer 17"}
    (said,) = compare_studies.scored_otherwise(alike["studies"])
    assert said.startswith("encoder of BERTScore: ") and said.endswith("roberta-large, layer 17 in small")
    other = make_study(tmp_path, ("baseline", "lora")).rename(tmp_path / "sampled")
    comparison = json.loads((other / "comparison.json").read_text())
    comparison["settings"]["decoding"] = "sampled"
    (other / "comparison.json").write_text(json.dumps(comparison))
    write_report(arguments(other, examples=1))
    found = compare_studies.gather([studies[0], other])
    assert found["scored_otherwise"] == ["decoding of the answers: greedy in all, sampled in sampled"]
    compare_studies.write(found, "Two", tmp_path)
    assert "were not scored alike (decoding of the answers: greedy in all" in (tmp_path / "compare.md").read_text()
    assert "were not scored alike (decoding of the answers: greedy in all" in (tmp_path / "compare.html").read_text()


def test_what_cannot_be_compared_is_refused(studies: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least two"):
        compare_studies.gather(studies[:1])
    with pytest.raises(UserError, match="two folders are called all"):
        compare_studies.gather([studies[0], studies[0]])
    with pytest.raises(UserError, match="results.json: no such file"):
        compare_studies.gather([studies[0], tmp_path])
