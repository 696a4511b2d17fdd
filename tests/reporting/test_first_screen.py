"""The first screen names a trial of the machinery, each arm in plain words, what tuning took, and the arithmetic."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest

from medsft.evaluation.safety_instrument import classifier
from medsft.files import read_json
from medsft.reporting import report, results, study
from medsft.reporting.report import write_report
from medsft.reporting.sections import tuning
from medsft.reporting.summary import arm_words, glance, trial
from synthetic_study import arguments, dump, make_study

ARMS = ("baseline", "lora", "full")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_study(tmp_path, ARMS)


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The report of such a study, and results.json's content."""
    written, found, _ = write_report(arguments(make_study(tmp_path_factory.mktemp("study"), ARMS)))
    return written, found


def change(path: Path, **values: object) -> None:
    dump(path, read_json(path) | values)


def sweep(folder: Path, **arms: Any) -> None:
    """sweep.json as sweep.py writes it: the rates tried, the one chosen, and the seconds of all."""
    found = {
        arm: {
            "chosen": chosen,
            "runs": [{"learning_rate": rate, "steps": 6} for rate in rates],
            "note": "",
            "seconds": seconds,
        }
        for arm, (chosen, rates, seconds) in arms.items()
    }
    dump(folder / "sweep" / "sweep.json", {"arms": found, "steps": 6, "seed": 42})


def large_enough(folder: Path) -> Any:
    """The results and the records of training of a study that is no trial."""
    loaded = study.load_study(folder)
    found: Any = results.gather(loaded, "A study", "0" * 16, None)
    for spent in found["cost"].values():
        spent["steps"] = trial.FEW_STEPS
    for arm in found["arms"].values():
        arm["n"] = trial.FEW_DIALOGUES
        arm["metrics"]["end_of_turn"]["mean"] = 1 - trial.MOST_CUT
    found["floor_terms"]["train_rows"] = None
    return found, {name: dict(train) for name, train in loaded.trained().items()}


def test_a_study_is_no_trial(folder: Path) -> None:
    found, trained = large_enough(folder)
    trained["lora"]["comparable"] = {"rows_seen": 230}
    assert trial.reasons(found, trained) == [] and trial.sentence([]) == ""


def test_each_condition_alone_makes_a_trial(folder: Path) -> None:
    found, trained = large_enough(folder)
    found["cost"]["lora"]["steps"] = trial.FEW_STEPS - 1
    assert trial.reasons(found, trained) == ["99 training steps"]
    found, trained = large_enough(folder)
    trained["full"]["comparable"] = {"rows_seen": 229}
    assert trial.reasons(found, trained) == ["229 of 230 training rows (under one epoch)"]
    found, trained = large_enough(folder)
    found["arms"]["lora"]["n"] = trial.FEW_DIALOGUES - 1
    assert trial.reasons(found, trained) == ["99 test dialogues"]
    found, trained = large_enough(folder)
    found["arms"]["lora"]["metrics"]["end_of_turn"]["mean"] = 0.89
    assert trial.reasons(found, trained) == ["answers cut at the limit (11 % in lora)"]


def test_a_trial_is_the_first_line_everywhere(reported: tuple[Path, Any]) -> None:
    written, found = reported
    said = trial.sentence(found["trial"])
    assert said.startswith("A trial of the machinery, no study; it ranks no method: 30 training steps, 48 of 230")
    assert found["verdict"][0] == said and read_json(written / "results.json")["trial"] == found["trial"]
    page, short = ((written / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    assert page.count(said) == 1 and page.index(said) < page.index("Better?")
    assert short.index(said) < short.index("**Better?**")
    for card in (written / "model_card.md", written.parent / "lora" / "README.md"):
        assert said in card.read_text(encoding="utf-8")


def test_each_arm_is_explained_once_where_it_stands_first(reported: tuple[Path, Any]) -> None:
    _, found = reported
    text = " ".join(found["glance"].values())
    assert "lora (small added weights trained) yes" in text and "full (every weight trained) not shown" in text
    assert all(text.count(f"({arm_words.words(arm)})") <= 1 for arm in ARMS)
    lines, left = arm_words.explained({"a": "qlora up, lora up", "b": "lora down"}, ["lora", "qlora", "baseline_nf4"])
    assert (
        lines["a"] == ("qlora (the same on a model in 4 bits) up, lora (small added weights trained) up")
        and lines["b"] == "lora down"
    )
    assert left == ["baseline_nf4: the untrained model in 4 bits"]


def test_the_seeds_of_a_method_are_one_mention_with_the_least_and_the_most(tmp_path: Path) -> None:
    found, _ = large_enough(make_study(tmp_path, ARMS))
    for part in ("arms", "cost"):
        found[part]["lora_seed1"] = copy.deepcopy(found[part]["lora"])
    for arm, loops, seconds, verdict in (("lora", 0.5, 60.0, "broken"), ("lora_seed1", 0.25, 90.0, "kept")):
        found["arms"][arm]["metrics"]["loop"] = {"mean": loops, "low": 0.0, "high": 1.0, "n": 40}
        found["cost"][arm]["wall_seconds"] = seconds
        found["guardrails"] = [row for row in found["guardrails"] if row["arm"] != arm]
        found["guardrails"].append({"arm": arm, "verdict": verdict})
    lines, left = glance.explained(found)
    assert "lora 10 to 20" in lines["Harm"] and "A range is over training seeds." in lines["Harm"]
    assert "lora (1 of 2 seeds)" in lines["Harm"]
    assert "lora 1.0 to 1.5 min, for each of 2 seeds" in lines["Cost"] and lines["Cost"].count("lora") == 1
    assert not any("lora_seed1" in text for text in [lines["Harm"], lines["Cost"], *left])
    assert "over training seeds" not in glance.harm(large_enough(make_study(tmp_path / "one", ARMS))[0])


@pytest.mark.parametrize(
    ("arm", "said"),
    [
        ("baseline_prompted", "the untrained model with instructions"),
        ("lora_q8", "lora stored in 8 bits"),
        ("full_f16", "full stored in 16 bits"),
        ("lora_seed2", "lora with another seed"),
        ("fault_padding", "the fault alone: every row padded to 512"),
        ("my_arm", ""),
    ],
)
def test_arms_in_plain_words(arm: str, said: str) -> None:
    assert arm_words.words(arm) == said


def test_without_a_sweep_nothing_is_said_of_tuning(reported: tuple[Path, Any]) -> None:
    written, found = reported
    assert found["tuning"] == {}
    for name in ("report.html", "report.md"):
        text = (written / name).read_text(encoding="utf-8")
        assert "not tuned" not in text and "rates tried" not in text


def test_what_tuning_took_stands_beside_the_training(folder: Path) -> None:
    sweep(folder, lora=(0.0002, [0.0001, 0.0002, 0.0004], 120.0), full=(0.00001, [0.00001, 0.00003], 60.0))
    written, found, _ = write_report(arguments(folder))
    assert found["tuning"]["lora"] == {
        "rates_tried": [0.0001, 0.0002, 0.0004],
        "chosen": 0.0002,
        "learning_rate": 0.0002,
        "tuned": True,
        "seconds": 120.0,
    }
    assert not found["tuning"]["full"]["tuned"]  # its config.yaml has 0.0002
    assert "1.6 min, and 2.0 min to find its rate" in found["glance"]["Cost"] and "full 1.6 min, not tuned" in re.sub(
        r" \([^)]*\)", "", found["glance"]["Cost"]
    )
    markdown = (written / "report.md").read_text(encoding="utf-8")
    assert "| learning rates tried | 3 | 2 |" in markdown
    assert "| learning rate of the arm | 0.0002 | 0.0002, not tuned |" in markdown
    assert "| tuning, all rates tried, s | 120 | 60 |" in markdown
    said = tuning.sentence(found)
    assert "lora 3 rates tried, 0.0002 chosen, in 120 s beside 93.40 s of training" in said
    assert "full not tuned (0.0002; 2 rates tried and not used)" in said
    assert said in (written / "report.html").read_text(encoding="utf-8")
    assert "learning rates tried,3,2" in (written / "tables" / "cost.csv").read_text(encoding="utf-8")


def test_a_continued_sweep_counts_the_runs_of_before(folder: Path) -> None:
    sweep(folder, lora=(0.0002, [0.0001, 0.0002], 0.5))
    for rate in ("0.0001", "0.0002"):
        dump(folder / "sweep" / f"lora_{rate}_6_steps" / "train.json", {"wall_seconds": 30.0})
    configs = {"lora": "learning_rate: 0.0002", "full": "learning_rate: 0.0002"}
    found = tuning.read(folder, configs)
    assert found["lora"]["seconds"] == 60.0
    assert found["full"] == {
        "rates_tried": [],
        "chosen": None,
        "learning_rate": 0.0002,
        "tuned": False,
        "seconds": 0.0,
    }
    before = report.input_fingerprint(folder, arguments(folder))
    sweep(folder, lora=(0.0001, [0.0001, 0.0002], 0.5))  # written anew: so is the report
    assert report.input_fingerprint(folder, arguments(folder)) != before
    assert not tuning.read(folder, configs)["lora"]["tuned"]


def test_repetitions_have_the_rate_of_their_method(folder: Path) -> None:
    sweep(folder, lora=(0.0002, [0.0002], 9.0))
    found = tuning.read(folder, {"lora_seed1": "learning_rate: 0.0002"})
    assert found["lora_seed1"]["tuned"]
    said = tuning.sentence({"tuning": found, "cost": {"lora_seed1": {"wall_seconds": 9.0}}})  # type: ignore[typeddict-item]
    assert "lora_seed1 1 rates tried, 0.0002 chosen, with the rate of lora" in said


def test_the_arithmetic_that_a_processor_chose_is_named_in_trust(folder: Path) -> None:
    for arm in ("lora", "full"):
        change(folder / arm / "train.json", settings={"dtype": "float32", "bf16": arm == "full", "use_cpu": True})
        precision = "bfloat16" if arm == "full" else "nf4 with bfloat16"
        change(folder / arm / "generation.json", precision=precision, device="AMD EPYC")
    found: Any = results.gather(study.load_study(folder), "A study", "0" * 16, None)
    assert found["arithmetic"]["training"] == {"lora": "float32", "full": "bfloat16"}
    said = glance.trust(found)
    assert "Arithmetic: trained in bfloat16 and float32, answered in bfloat16 and nf4 with bfloat16 on AMD EPYC" in said
    assert "in which this processor is fastest" in said
    found["arithmetic"]["processor"] = False
    assert "measured speed" not in glance.trust(found)


def test_a_count_of_emergencies_says_how_often_the_reading_is_right(folder: Path) -> None:
    for arm in ARMS:
        scores = read_json(folder / arm / "scores.json")
        scores["metrics"]["red_flag_recall"] = {"mean": 0.5, "low": 0.2, "high": 0.8, "n": 22}
        dump(folder / arm / "scores.json", scores)
    found: Any = results.gather(study.load_study(folder), "A study", "0" * 16, None)
    assert "counts too many" not in glance.harm(found)  # scored before that was measured
    found["safety_instrument"] = classifier.instrument()
    measured = found["safety_instrument"]["messages"]["sample"]["precision"]
    assert f"of {measured['n']} so read in a labelled sample {measured['hits']} are." in glance.harm(found)
