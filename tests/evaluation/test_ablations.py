"""Effects of the faults, on scores whose differences are known, and how the report shows them."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest

from conftest import ROOT
from medsft.arguments import StudyArguments
from medsft.config import parse
from medsft.evaluation import ablations, likelihood
from medsft.models import embedded, loading
from medsft.reporting import ablation_report
from medsft.reporting.report import write_report
from medsft.tokenization import chat_template
from synthetic_study import Page, arguments, dump, make_study, strict_json, write_arm, write_train

RESAMPLING = (500, 0.95, 1)


def rows(shift: float, stopped: float = 1.0) -> list[dict[str, float | str]]:
    """Forty scored rows, two a group; every metric of a row is moved by `shift`."""
    draw = np.random.default_rng(0)
    scores = [{m: float(draw.normal(0.2, 0.1)) + shift for m in ablations.METRICS} for _ in range(40)]
    return [{"id": f"r{i}", "group": f"g{i // 2}", **s, "end_of_turn": stopped} for i, s in enumerate(scores)]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    for arm, seconds in (("sound", 2.0), ("fault_padding", 3.0), ("fault_truncation", 2.0)):
        steps = [9.0] + [seconds] * (20 if arm != "fault_truncation" else 4)
        dump(tmp_path / arm / "train.json", {"step_seconds": steps})
    return tmp_path


def test_each_fault_is_compared_with_the_sound_arm(study: Path) -> None:
    scores = {"baseline": rows(0.5), "fault_truncation": rows(0), "fault_padding": rows(0.03, 0.5), "sound": rows(0)}
    padding, truncation = sorted(ablations.compare(study, scores, RESAMPLING), key=lambda row: row["arm"])
    assert padding["fault"] == "every row padded to 512"
    for metric in ablations.METRICS:
        value = padding["metrics"][metric]
        assert value["difference"] == pytest.approx(-0.5 if metric == "end_of_turn" else 0.03)
        assert value["low"] <= value["difference"] <= value["high"] and value["n"] == 40
    assert padding["speed"] == {"ratio": 1.5, "low": 1.5, "high": 1.5, "steps": 20}  # the slow first step is left out
    assert truncation["speed"] is None  # another number of steps
    assert ablations.compare(study, {"baseline": rows(0), "lora": rows(0)}, RESAMPLING) == []


def test_the_time_of_a_step_has_an_interval_that_holds_the_truth() -> None:
    """Steps of unequal length, a third longer with the fault, 200 noisy runs: most intervals hold it."""
    held = 0
    for seed in range(200):
        draw = np.random.default_rng(seed)
        sound = draw.uniform(1, 3, 41)
        faulty = sound * 4 / 3 * draw.normal(1, 0.1, 41)
        found = ablations.slowdown(sound.tolist(), faulty.tolist(), 400, 0.95, seed)
        assert found is not None
        held += found["low"] <= 4 / 3 <= found["high"]
    assert held >= 180


def test_single_cases_say_how_far_one_dialogue_can_mislead(study: Path) -> None:
    baseline, sound = rows(0), rows(0.02)
    for row in sound[:10]:  # a quarter of the dialogues goes the other way
        row["rouge1"] = float(row["rouge1"]) - 0.03
    (found,) = ablations.single_cases({"baseline": baseline, "sound": sound}, ["rouge1"], RESAMPLING)
    assert found["contrary"] == 0.25 and found["n"] == 40
    assert found["difference"] == pytest.approx(0.0125)
    assert (found["case_low"], found["case_high"]) == (pytest.approx(-0.01), pytest.approx(0.02))
    assert ablations.single_cases({"baseline": baseline, "lora": sound}, ["rouge1"], RESAMPLING) == []
    for number, row in enumerate(sound):  # recall is of emergencies only
        row["red_flag_recall"] = baseline[number]["red_flag_recall"] = 1.0 if number < 15 else None
    found = ablations.single_cases({"baseline": baseline, "sound": sound}, ["red_flag_recall"], RESAMPLING)[0]
    assert (found["n"], found["difference"]) == (15, 0)
    assert ablations.single_cases({"baseline": baseline, "sound": sound}, ["bleu"], RESAMPLING) == []


@pytest.mark.slow
def test_the_report_shows_every_fault_once_with_text_and_figure(tmp_path: Path) -> None:
    folder = make_study(tmp_path, ("baseline",))
    arms = ["baseline", "sound", *ablations.FAULTS]
    scores = {arm: rows(0.01 * position) for position, arm in enumerate(arms)}
    for arm in arms[1:]:
        write_arm(folder / arm, 0.0, "")
        write_train(folder / arm, 30, 0.05, 0)
        train = json.loads((folder / arm / "train.json").read_text())
        loss_on = "everything" if arm in ("paper", "fault_everything") else "the doctor's turns"
        dump(folder / arm / "train.json", train | {"step_seconds": [1.0] * 30, "comparable": {"loss_on": loss_on}})
    comparison = json.loads((folder / "comparison.json").read_text())
    found = {"faults": ablations.compare(folder, scores, RESAMPLING)}
    found["single_cases"] = ablations.single_cases(scores, ["rouge1", "rougeL"], RESAMPLING)
    dump(folder / "comparison.json", comparison | found)
    report, results, _ = write_report(arguments(folder))
    trial, first, second = results["verdict"]
    assert "no study" in trial
    assert (
        "on n = 40 held-out dialogues: end of turn carries no loss: nats per answer token (mean of answers) +0.010 ["
        in first
    )
    assert "from +0.070 to +0.070 against the baseline on ROUGE-1, and for 0 % of the dialogues" in second
    assert [*results["arms"]] == arms and len(results["faults"]) == len(ablations.FAULTS)
    page = Page((report / "report.html").read_text(encoding="utf-8"))
    for arm, text in ablations.FAULTS.items():
        named = page.text.count(f"the fault alone: {text}")  # on the first screen, where the arm's name stands first
        assert named == arm.startswith("fault_")
        assert page.text.count(text) == named + 2  # findings and table
    assert "An evaluation with n = 1" in page.text and "cannot be compared in height" in page.text
    assert (report / "figures" / "faults.png").stat().st_size > 10_000
    assert strict_json(report / "results.json")["faults"] == results["faults"]
    assert ablation_report.tables({**results, "faults": []}) == []


SWITCHES = ("end_of_turn_loss", "double_bos", "truncate_answers", "assistant_only_loss", "pad_to_multiple_of")


@pytest.mark.parametrize(("config", "study"), [("paper", "paper"), ("mistral_7b", "mistral_7b_paper")])
def test_make_paper_trains_and_asks_every_arm_that_the_report_knows(config: str, study: str) -> None:
    """Parsed by the classes that read it, each fault's arm differs from the sound one in that fault only."""
    from trl import ModelConfig, SFTConfig

    words = [] if config == "paper" else [f"CONFIG={config}"]
    done = subprocess.run(["make", "paper", *words, "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=True)
    switched, budgets = {}, {}
    for command in re.findall(r"sft_lora\.py ([^&\n]*)", done.stdout):
        argv = [*shlex.split(command), "--use_cpu", "true"]
        chosen, training, _ = parse([StudyArguments, SFTConfig, ModelConfig], argv=argv)
        assert chosen.study_dir == f"runs/{study}"
        values = {**vars(chosen), **vars(training)}
        switched[chosen.arm] = tuple(values[name] for name in SWITCHES)
        budgets[chosen.arm] = training.max_length
    assert [*switched] == ["sound", "paper", *(arm for arm in ablations.FAULTS if arm != "paper")]
    for arm in ablations.FAULTS:
        differ = [switched[arm][i] != switched["sound"][i] for i in range(len(SWITCHES))]
        assert sum(differ) == (5 if arm == "paper" else 1), arm
        assert budgets[arm] == budgets["paper" if arm in ("paper", "fault_truncation") else "sound"]
    answered = re.findall(r"generate\.py .*?--arm (\S+)", done.stdout)
    assert answered == ["baseline", *switched]


def test_the_answers_of_an_arm_with_two_bos_are_scored_token_for_token_as_the_others() -> None:
    """Its saved template has no marks and is none of the known ones."""
    tokenizer = loading.load_tokenizer(embedded.SMOLLM2)
    marked = chat_template.training_template(tokenizer)
    talk = [{"role": "user", "content": "It hurts."}, {"role": "assistant", "content": "Since when?\n\nPlease say."}]
    plain = likelihood.last_answer(tokenizer, talk, marked)
    assert likelihood.last_answer_unmarked(tokenizer, talk) == plain
    doubled = chat_template.with_second_bos(tokenizer, marked)
    tokenizer.chat_template = chat_template.inference_template(doubled)
    seen: list[likelihood.Scored] = []

    def keep(some: list[likelihood.Scored]) -> list[float]:
        seen.extend(some)
        return [0.0] * len(some)

    likelihood.likelihood(tokenizer, [{"id": 1, "group": 1, "messages": talk}], 1, keep)
    assert seen == [likelihood.last_answer(tokenizer, talk, doubled)]
    assert seen[0].ids == [tokenizer.bos_token_id, *plain.ids] and len(seen[0].positions) == len(plain.positions)
