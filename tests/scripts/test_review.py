"""Blinded review forms, raters' agreement and the judge, against a server of the test's own."""

import csv
import re

import pytest

from conftest import run_here, run_script
from local_judge import LocalJudge, serving
from medsft.errors import UserError
from medsft.evaluation.review import biases, human_review, llm_judge, rater_agreement
from medsft.evaluation.statistics.intervals import Resampling
from medsft.files import read_json, write_jsonl

NAMES = ("baseline", "lora")


def answers(arm, count=12):
    text = "Short answer" if arm == "baseline" else "A longer and better answer"
    common = {"source": "made up", "reference": "Rest it.", "stopped": True, "new_tokens": 5}
    return [
        {"id": f"r{i}", "group": f"g{i}", "prompt": f"=My knee {i} hurts.", "prediction": f"{text} {i}.", **common}
        for i in range(count)
    ]


class Server(LocalJudge):
    """Prefers the longer answer, or always the first; counts what it was asked."""

    style, asked = "longer", 0

    def answer(self, question):
        type(self).asked += 1
        _, first, second = re.findall(r"<<<\n(.*?)\n>>>", question, re.DOTALL)
        side = 1 if self.style == "first" or len(first) > len(second) else 2
        return "No idea." if self.style == "mute" else f"It says more.\nVERDICT: {side}"


@pytest.fixture
def endpoint():
    Server.style, Server.asked = "longer", 0
    with serving(Server) as address:
        yield address


@pytest.fixture
def study(tmp_path):
    for arm in NAMES:
        write_jsonl(tmp_path / arm / "generations.jsonl", answers(arm))
    return tmp_path


def fill(form, key, target, choose):
    with form.open(newline="", encoding="utf-8-sig") as handle:
        rows = list(csv.DictReader(handle))
    for row in rows:
        row["preferred"] = choose(row, read_json(key)[row["pair"]]["key"])
    with target.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, human_review.COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def side_of(arm):
    return lambda row, key: "1" if key["answer_1"] == arm else "2"


def test_the_form_names_no_arm_draws_sides_and_is_read_back(tmp_path):
    both = answers("baseline", 60), answers("lora", 60)
    pairs = human_review.draw_pairs(*both, NAMES, 50, seed=1)
    form, key = tmp_path / "s.csv", tmp_path / "k.json"
    human_review.write_form(pairs, form, key)
    text = form.read_text()
    assert text[0] == "\ufeff" and text.count("\ufeff") == 1  # Excel reads UTF-8 by it
    assert "lora" not in text and "baseline" not in text
    for pair, start in zip(pairs, ("'-5 kg in a month", "''=", "'tis", "\t-", "it's"), strict=False):
        pair["patient"] = start
    human_review.write_form(pairs, form, key)
    assert [row["patient"] for row in human_review.read_rows(form)][:5] == [pair["patient"] for pair in pairs[:5]]
    human_review.write_form(human_review.draw_pairs(*both, NAMES, 50, seed=1), form, key)
    first = [pair["key"]["answer_1"] for pair in pairs]
    assert 15 < first.count("lora") < 35
    assert all(row["patient"].startswith("'=") for row in csv.DictReader(form.open(newline="")))
    fill(form, key, tmp_path / "filled.csv", lambda row, key: "" if row["pair"] == "3" else side_of("lora")(row, key))
    rated = human_review.read_form(tmp_path / "filled.csv", key)
    assert [row["choice"] for row in rated] == ["lora"] * 49
    found = rater_agreement.preference([r["choice"] for r in rated], [r["group"] for r in rated], "lora", 0.95)
    assert (found["wins"], found["losses"], found["preference"]) == (49, 0, 1.0)
    assert found["p"] < 1e-6 and 0.8 < found["low"] < 1 == found["high"]
    assert human_review.draw_pairs(answers("lora"), answers("lora"), NAMES, 5, 1) == []


@pytest.mark.parametrize(("value", "message"), [("3", "write 1, 2 or tie"), ("lora", "write 1, 2 or tie")])
def test_a_rating_that_cannot_be_meant_is_refused(tmp_path, value, message):
    pairs = human_review.draw_pairs(answers("baseline"), answers("lora"), NAMES, 4, seed=1)
    human_review.write_form(pairs, tmp_path / "s.csv", tmp_path / "k.json")
    fill(tmp_path / "s.csv", tmp_path / "k.json", tmp_path / "f.csv", lambda row, key: value)
    with pytest.raises(UserError, match=message):
        human_review.read_form(tmp_path / "f.csv", tmp_path / "k.json")


def test_cohens_kappa_by_hand():
    """20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: observed 0.7, by chance 0.5, kappa 0.4."""
    first = ["y"] * 25 + ["n"] * 25
    second = ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15
    assert rater_agreement.cohens_kappa(first, second) == pytest.approx(0.4)
    found = rater_agreement.agreement(first, second, 999, 0.95, 0)
    assert found["share"] == 0.7
    assert 0.1 < found["low"] < 0.4 < found["high"] < 0.65
    assert rater_agreement.cohens_kappa(["y", "n"], ["n", "y"]) == -1
    assert rater_agreement.cohens_kappa(["y", "y"], ["y", "y"]) is None
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is installed for development only")
    assert rater_agreement.cohens_kappa(first, second) == pytest.approx(metrics.cohen_kappa_score(first, second))


@pytest.mark.parametrize(
    ("style", "side", "consistent"), [("longer", "answer_2", True), ("first", "tie", False), ("mute", "abstain", False)]
)
def test_swapped_positions_take_away_a_judges_favourite_side(endpoint, style, side, consistent):
    Server.style = style
    found = llm_judge.compare(
        llm_judge.Judge(endpoint, "m", "Be fair."), "My knee hurts.", "Rest.", "Rest it and cool it."
    )
    assert (found["side"], found["consistent"]) == (side, consistent)
    assert (found["first_shown"], found["decided"]) == {"longer": (1, 2), "first": (2, 2), "mute": (0, 0)}[style]
    assert Server.asked == 2


def test_a_judge_is_held_to_the_physicians_before_it_is_heard(study, endpoint):
    def review(*flags):
        return run_script("review.py", "--study_dir", study, "--resamples", 300, *flags)

    empty = review()
    assert empty.returncode == 0, empty.stderr
    form, key = study / "review" / "lora_sheet.csv", study / "review" / "lora_key.json"
    fill(form, key, study / "anna.csv", side_of("lora"))
    fill(form, key, study / "ben.csv", lambda row, k: "tie" if row["pair"] in ("1", "2") else side_of("lora")(row, k))
    flags = ["--sheets", study / "anna.csv", study / "ben.csv", "--endpoint", endpoint, "--model", "m"]
    done = review(*flags)
    assert done.returncode == 0, done.stderr
    out = done.stdout
    assert out.index("agreement of anna and judge") < out.index("judge m: lora better in 12")
    found = read_json(study / "review" / "lora_review.json")
    assert found["judge"]["wins"] == 12
    assert found["judge"]["consistent"] == 1
    assert found["agreement"]["anna and ben"]["share"] == pytest.approx(10 / 12)
    assert found["alpha"]["low"] <= found["alpha"]["mean"] < 1
    for rater, again in (("anna", 1.0), ("ben", None)):
        biases = found["raters"][rater]["biases"]
        assert biases["longer"]["mean"] == 1  # the arm's answers are all longer
        assert 0.2 < biases["answer_1"]["mean"] < 0.8
        assert biases["retest"]["n"] == 3 and again in (None, biases["retest"]["share"])
    corrected = found["judge"]["corrected"]
    assert (corrected["labelled"], corrected["unlabelled"], corrected["weight"]) == (12, 0, 0)
    asked = Server.asked
    assert asked == 2 * (12 + 3)  # three pairs come twice
    assert review(*flags).returncode == 0
    assert Server.asked == asked  # verdicts are kept


def test_ratings_of_earlier_runs_stay(study, endpoint):
    folder = study / "review"
    flags = ["--study_dir", study, "--arm", "lora", "--resamples", 100, "--repeats", 0]
    assert run_here("review.py", *flags).returncode == 0
    form, key = folder / "lora_sheet.csv", folder / "lora_key.json"
    for name, target in (("Ada", folder / "lora_by_Ada.csv"), ("Bo", study / "Bo.csv")):  # the page's, a spreadsheet's
        fill(form, key, target, side_of("lora" if name == "Ada" else "baseline"))
    sheets = ["--sheets", study / "Bo.csv"]
    assert run_here("review.py", *flags, *sheets, "--endpoint", endpoint, "--model", "m").returncode == 0
    judge = read_json(folder / "lora_review.json")["judge"]
    (study / "Bo.csv").unlink()
    done = run_here("review.py", *flags)
    found = read_json(folder / "lora_review.json")
    assert done.returncode == 0 and "judge m: as it was" in done.stdout
    assert {name: rater["wins"] for name, rater in found["raters"].items()} == {"Ada": 12, "Bo": 0}
    assert found["judge"] == judge and judge["model"] == "m"
    again = run_here("review.py", *flags, "--sheets", folder / "lora_by_Ada.csv")  # the page's own form counts once
    assert again.returncode == 0 and [*read_json(folder / "lora_review.json")["raters"]] == ["Ada", "Bo"]
    fill(form, key, study / "Ada.csv", side_of("baseline"))
    refused = run_here("review.py", *flags, "--sheets", study / "Ada.csv")
    assert refused.returncode == 2 and "Ada has also rated on the page" in refused.stderr


def test_a_judge_of_more_pairs_is_corrected_by_the_physicians(tmp_path, endpoint):
    """The judge always takes the longer answer, the arm's; the physician finds half of the arm's answers worse."""
    for arm in NAMES:
        write_jsonl(tmp_path / arm / "generations.jsonl", answers(arm, 60))
    flags = ["--study_dir", tmp_path, "--resamples", 300, "--pairs", 20]
    assert run_here("review.py", *flags).returncode == 0
    form, key = tmp_path / "review" / "lora_sheet.csv", tmp_path / "review" / "lora_key.json"
    worse = {entry["id"] for entry in [*read_json(key).values()][::2]}
    known = read_json(key)
    choose = {n: side_of("baseline" if e["id"] in worse else "lora") for n, e in known.items()}
    fill(form, key, tmp_path / "anna.csv", lambda row, sides: choose[row["pair"]](row, sides))
    flags += ["--sheets", tmp_path / "anna.csv", "--endpoint", endpoint, "--model", "m", "--judge_pairs", 30]
    done = run_here("review.py", *flags)
    assert done.returncode == 0, done.stderr
    found = read_json(tmp_path / "review" / "lora_review.json")
    corrected = found["judge"]["corrected"]
    assert (corrected["labelled"], corrected["unlabelled"], corrected["model_alone"]) == (20, 30, 1)
    assert corrected["mean"] == pytest.approx(found["raters"]["anna"]["preference"])
    assert corrected["low"] < 0 < corrected["high"] and "30 further ones" in done.stdout
    assert found["judge"]["wins"] == 50 and Server.asked == 2 * (20 + 4 + 30)


def test_a_form_of_answers_that_changed_is_refused_and_raters_are_matched_by_id(tmp_path):
    form, key = tmp_path / "s.csv", tmp_path / "k.json"
    both = answers("baseline"), answers("lora")
    pairs = human_review.draw_pairs(*both, NAMES, 12, seed=1)
    human_review.write_form(pairs, form, key)
    assert human_review.pairs_of_form(form, key, *both, NAMES) == pairs
    anew = [{**row, "prediction": row["prediction"] + " Again."} for row in both[1]]
    with pytest.raises(UserError, match="pair 1 shows answers that were made anew since"):
        human_review.pairs_of_form(form, key, both[0], anew, NAMES)

    other = human_review.draw_pairs(*both, NAMES, 12, seed=2)
    human_review.write_form(other, tmp_path / "other.csv", tmp_path / "other.json")
    fill(tmp_path / "other.csv", tmp_path / "other.json", tmp_path / "filled.csv", side_of("lora"))
    with pytest.raises(UserError, match="shows other texts than k.json"):
        human_review.read_form(tmp_path / "filled.csv", key)
    prefer = {row["id"]: "lora" if at % 3 else "baseline" for at, row in enumerate(pairs)}
    one = [{**row, "choice": prefer[row["id"]]} for row in pairs]
    two = [{**row, "choice": prefer[row["id"]]} for row in other]
    two[0]["choice"] = llm_judge.ABSTAINED
    choices = human_review.rated_by_both(one, two)
    assert choices[0] == choices[1] and len(choices[0]) == 11


@pytest.mark.parametrize(
    ("endpoint_", "message"),
    [("ftp://x", "give an address"), ("https://api.example.com/v1", "not this machine")],
)
def test_dialogues_do_not_leave_the_machine_by_accident(endpoint_, message):
    with pytest.raises(UserError, match=message):
        llm_judge.check(llm_judge.Judge(endpoint_, "m", ""), allow_remote=False)
    with pytest.raises(UserError, match="is the judge running"):
        llm_judge.ask(llm_judge.Judge("http://127.0.0.1:9/v1", "m", "", 2), "a", "b", "c")


def test_a_rater_who_takes_the_first_answer_has_a_position_bias_and_fails_the_retest():
    pairs = human_review.draw_pairs(answers("baseline", 40), answers("lora", 40), NAMES, 40, 1, repeats=8)
    assert [pair["repeat_of"] is not None for pair in pairs] == [False] * 40 + [True] * 8
    rated = [{**pair, "choice": pair["key"]["answer_1"]} for pair in pairs]
    found = biases.biases(rated, pairs, Resampling(200, 0.95, 0))
    assert found["answer_1"]["mean"] == 1 and found["answer_1"]["low"] > 0.85
    assert found["longer"]["low"] < 0.5 < found["longer"]["high"]
    assert (found["retest"]["n"], found["retest"]["share"]) == (8, 0)
    constant = [{**pair, "choice": "lora"} for pair in pairs]
    found = biases.biases(constant, pairs, Resampling(200, 0.95, 0))
    assert found["retest"]["share"] == found["longer"]["mean"] == 1
    assert (
        biases.biases([{**pair, "choice": "tie"} for pair in pairs], pairs, Resampling(200, 0.95, 0))["longer"] is None
    )
