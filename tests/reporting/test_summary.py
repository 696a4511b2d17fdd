"""What the report says first: four lines, one picture, safety in counts; groups of metrics, CHART, a paper's tables."""

import csv
import io
import re
import shutil
from pathlib import Path

import pytest

from medsft.evaluation.metrics import modules
from medsft.files import read_json, read_jsonl, sha256_file, write_jsonl
from medsft.reporting import results, study
from medsft.reporting.report import write_report
from medsft.reporting.summary import checklist, examples, glance, metric_groups, paper, quality_cost, ratings, safety
from medsft.result_records import Results
from medsft.text import LABELS
from synthetic_study import Page, arguments, dump, make_study

ARMS = ("baseline", "lora", "full")


def share(hits: int, n: int) -> dict[str, float]:
    return {"mean": hits / n, "low": 0.0, "high": 1.0, "n": n}


def rater(role: str | None, wins: int, losses: int, marked: tuple[int, int]) -> dict[str, object]:
    unsafe = {
        "n": 40,
        "marked": {"baseline": marked[0], "lora": marked[1]},
        "difference": 0.0,
        "low": None,
        "high": None,
    }
    found = {"n": 40, "wins": wins, "losses": losses, "ties": 40 - wins - losses, "unsafe": unsafe}
    net = {"preference": (wins - losses) / 40, "low": -0.1, "high": 0.3, "p": 0.2}
    return {**found, **net, "role": role} if role else {**found, **net}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three arms, 16 emergencies of which none is sent to care but by the full arm, and loops."""
    made = make_study(tmp_path, ARMS)
    for arm, (sent, loops) in {"baseline": (0, 2), "lora": (0, 10), "full": (3, 14)}.items():
        scores = read_json(made / arm / "scores.json")
        scores["metrics"] |= {"red_flag_recall": share(sent, 16), "loop": share(loops, 44), "identity": share(0, 44)}
        dump(made / arm / "scores.json", scores)
    dump(made / "full" / "train.json", read_json(made / "full" / "train.json") | {"wall_seconds": 600.0})
    return made


def rate(folder: Path, raters: dict[str, object], **more: object) -> None:
    answers = {arm: sha256_file(folder / arm / "generations.jsonl") for arm in ("baseline", "lora")}
    review = {"arm": "lora", "raters": raters, "agreement": {}, "alpha": None, "judge": None, "answers": answers}
    dump(folder / "review" / "lora_review.json", review | more)


def gathered(folder: Path) -> Results:
    return results.gather(study.load_study(folder), "Is it better?", "0" * 16, None)


def test_four_lines_in_whole_counts(folder: Path) -> None:
    lines = glance.lines(gathered(folder))
    assert list(lines) == ["Better?", "Harm", "Cost", "Trust"]
    assert "lora yes (better on 4 of 4 measures); full not shown (no difference on 4 measures)" in lines["Better?"]
    assert "need no model: lora on 4 of 4, full on 0 of 4." in lines["Better?"] and "n = 44" in lines["Better?"]
    assert "Sent to urgent care, of 16 messages read as emergencies" in lines["Harm"]
    assert "Answers that loop, of 44: baseline 2, lora 10, full 14." in lines["Harm"]
    assert lines["Harm"].endswith(
        "No clinician has read the answers: other harm is unknown. No arm is shown to be safe."
    )
    assert "identity" not in lines["Harm"]
    assert "lora 1.6 min, 3.1 GB, 3.63 % of the weights; full 10.0 min" in lines["Cost"]
    assert "trained once" in lines["Trust"] and "No clinician has rated" in lines["Trust"]


def test_no_emergency_sent_to_care_is_said_outright(folder: Path) -> None:
    scores = read_json(folder / "full" / "scores.json")
    scores["metrics"]["red_flag_recall"] = share(0, 16)
    dump(folder / "full" / "scores.json", scores)
    assert "No arm sent any emergency to care." in glance.harm(gathered(folder))


def test_what_one_of_two_draws_has_is_not_rounded_away(folder: Path) -> None:
    for arm, sent in (("baseline", 0.0), ("lora", 0.0), ("full", 0.5)):
        scores = read_json(folder / arm / "scores.json")
        scores["metrics"] |= {
            "red_flag_recall": {**share(0, 16), "mean": sent / 16},
            "identity": {**share(0, 44), "mean": (0.5 if arm == "lora" else 0) / 44},
        }
        dump(folder / arm / "scores.json", scores)
    said = glance.harm(gathered(folder))
    assert "No arm sent any emergency" not in said and "full 0.5" in said
    assert "Answers with an invented identity, of 44: baseline 0, lora 0.5, full 0." in said
    assert safety.of({**share(0, 44), "mean": 1.5 / 44}, 44) == "1.5 of 44"


def test_examples_blame_the_answer_that_is_shown(folder: Path) -> None:
    """Primary scores are of sampled answers; the page shows greedy ones."""
    answers = read_jsonl(folder / "lora" / "generations.jsonl")
    rows = [{"id": row["id"], "loop": 0.5 * (number == 0)} for number, row in enumerate(answers)]
    greedy = [{"id": row["id"], "decoding": "greedy", "loop": float(number == 1)} for number, row in enumerate(answers)]
    write_jsonl(folder / "lora" / "scores_per_example.jsonl", rows)
    write_jsonl(folder / "lora" / "decodings_per_example.jsonl", greedy)
    scores = read_json(folder / "lora" / "scores.json")
    scores["settings"]["decoding"] = "sampled"
    dump(folder / "lora" / "scores.json", scores)
    shown = {row["id"]: row["why"] for row in examples.draw(study.load_study(folder), len(answers), 0)}
    assert any("loop" in why and "lora" in why for why in shown[answers[1]["id"]])
    assert not any("loop" in why and "lora" in why for why in shown[answers[0]["id"]])


def test_a_study_scored_on_its_first_rows_has_a_report(folder: Path) -> None:
    for arm in ARMS:
        answers = read_jsonl(folder / arm / "generations.jsonl")[:10]
        write_jsonl(folder / arm / "scores_per_example.jsonl", [{"id": row["id"]} for row in answers])
        dump(folder / arm / "scores.json", read_json(folder / arm / "scores.json") | {"n": 10})
    assert [len(arm.generations) for arm in study.load_study(folder).arms] == [10] * len(ARMS)


def test_a_rating_of_an_arm_that_is_gone_is_stale(folder: Path) -> None:
    rate(folder, {"ann": rater("nurse", 3, 1, (0, 0))})
    shutil.rmtree(folder / "baseline")
    assert ratings.read(folder, ["lora"])["lora"]["stale"] == ["baseline"]


def test_the_paragraph_of_methods_follows_the_study(folder: Path) -> None:
    found = gathered(folder)
    said = paper.methods(found, ["toy"])
    assert "by groups of near-duplicates" in said and "Every arm and the untrained model answered" in said
    assert "The loss covered the doctor's words and the end of turn." in said
    found["data"]["leaking"] = 37
    found["cost"]["fault_end_of_turn"] = found["cost"]["lora"]
    del found["arms"]["baseline"]
    said = paper.methods(found, ["toy"])
    assert "37 held-out rows have a near-duplicate in training" in said and "by groups" not in said
    assert "Every arm answered" in said
    assert "but in fault_end_of_turn: end of turn carries no loss." in said


def test_arms_that_miss_most_emergencies_are_said_to(folder: Path) -> None:
    for hits, said in ((7, True), (8, False)):
        for arm in ("baseline", "lora", "full"):
            scores = read_json(folder / arm / "scores.json")
            scores["metrics"]["red_flag_recall"] = share(hits if arm == "lora" else 1, 16)
            dump(folder / arm / "scores.json", scores)
        assert ("Each misses most emergencies." in glance.harm(gathered(folder))) == said


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([0.1, 0.1, 0.1, 0.1], "yes (better on 4 of 4 measures)"),
        ([0.1, 0.0, 0.1, 0.0], "partly (better on 2 of 4 measures: ROUGE-1 and ROUGE-L)"),
        ([-0.1, 0.0, 0.0, 0.0], "no, worse (on 1 of 4 measures: ROUGE-1)"),
        ([-0.1, 0.1, 0.0, 0.0], "mixed (better on 1 of 4 measures: ROUGE-2; worse on 1 of 4 measures: ROUGE-1)"),
    ],
)
def test_better_is_said_in_a_word(folder: Path, differences: list[float], expected: str) -> None:
    found = gathered(folder)
    rows = [row for row in found["comparisons"] if row["arm"] == "lora"]
    for row, difference in zip(rows, differences, strict=True):
        row["difference"], row["p_holm"] = difference, 0.001 if difference else 1.0
    assert f"lora {expected}" in glance.better(found)


def test_a_prompted_untrained_model_is_a_line_in_words_and_picture(folder: Path) -> None:
    found = gathered(folder)
    row = {**found["comparisons"][0], "baseline": "baseline_prompted", "p_holm": 0.001, "difference": -0.1}
    found["pairs"] = [row]  # type: ignore[list-item]
    found["arms"]["baseline_prompted"] = found["arms"]["baseline"]
    assert "Against other prompts, baseline_prompted: lora better on 0 and worse on 1 of 1." in glance.better(found)
    (axes,) = quality_cost.figure(found).axes
    labels = list(axes.get_legend_handles_labels()[1])
    assert labels == ["lora", "full", "untrained", "untrained: baseline_prompted", "no model: nearest"]


def test_the_picture_has_each_arm_at_its_minutes_with_its_interval(folder: Path) -> None:
    (axes,) = quality_cost.figure(gathered(folder)).axes
    bars = [line.get_xydata().tolist() for line in axes.get_lines() if len(line.get_xydata()) == 2]
    assert [pytest.approx([93.4 / 60, 0.245]), pytest.approx([93.4 / 60, 0.275])] in bars
    assert any(bar[0][0] == pytest.approx(10.0) for bar in bars)
    assert axes.get_xscale() == "log"


def test_ratings_reach_lines_verdict_safety_and_checklist(folder: Path) -> None:
    rate(folder, {"anna": rater("physician", 18, 10, (3, 5)), "ben": rater(None, 14, 13, (1, 3))})
    written, found, _ = write_report(arguments(folder))
    who = "2 raters (physician, role not given)"
    assert (
        f"Blinded: {who} preferred lora in 32 and the untrained model in 23 of 80 ratings."
        in found["glance"]["Better?"]
    )
    assert f"{who} marked unsafe, of 80: baseline 4, lora 8." in found["glance"]["Harm"]
    assert f"Rated blind against the untrained model: lora by {who}." in found["glance"]["Trust"]
    assert [row[7] for row in safety.table(found).rows] == ["4 of 80", "8 of 80", "–"]
    assert any("raters preferred" in line or who in line for line in found["verdict"])
    markdown = (written / "report.md").read_text(encoding="utf-8")
    assert "no clinician read them" not in markdown and "| lora | anna | physician | 40 | 18 | 12 | 10 |" in markdown
    assert who in {item.number: item.answer or "" for item in checklist.items(found, [])}["7b"]


def test_ratings_of_earlier_answers_are_left_out_and_named(folder: Path) -> None:
    rate(folder, {"anna": rater("physician", 18, 10, (3, 5))}, answers={"lora": "of before"})
    found = gathered(folder)
    assert ratings.counted(found) == {}
    assert "Ratings of lora are left out: they are of earlier answers" in glance.trust(found)
    assert "No clinician has rated" in glance.trust(found)


def test_a_form_that_nobody_filled_in_is_no_rating(folder: Path) -> None:
    rate(folder, {})
    assert not ratings.table(gathered(folder)).rows and "Nobody has rated" in ratings.table(gathered(folder)).empty


def test_every_metric_has_a_group_a_direction_and_a_meaning() -> None:
    known = [*LABELS, *(f"rouge1_{end}" for end in ("precision", "recall", "stripped", "matched", "equal"))]
    for metric in known:
        if metric in ("recited", "matched", "agreement"):  # memorization: a table of its own
            continue
        assert metric_groups.group_of(metric) is not metric_groups.OTHERS, metric
        said, way = metric_groups.meaning(metric).rsplit("; ", 1)
        assert said and way in metric_groups.WAYS.values()
    assert metric_groups.head("rouge1") == "ROUGE-1 ↑" and metric_groups.head("loop").endswith("↓")
    assert metric_groups.group_of("corpus_bleu").title == metric_groups.group_of("bleu").title == "Words"
    assert [group.title for group, _ in metric_groups.grouped(["loop", "rouge1", "mine"])] == [
        "Words",
        "Behaviour",
        "Others",
    ]
    assert modules.PRIMARY


def test_open_items_of_the_checklist_are_named(folder: Path) -> None:
    found = gathered(folder)
    rows = checklist.table(found, ["toy-135M"])
    assert len({row[0] for row in rows.rows}) == len(rows.rows) == 30
    missing = checklist.unanswered(found, ["toy-135M"])
    assert {"1b", "2a", "12a", "12b", "12c"} <= set(missing) and "3a" not in missing and "9a" not in missing
    assert f"Open, {len(missing)} of 30: {', '.join(missing)}." in rows.note
    assert all((row[2] == checklist.OPEN) == (row[0] in missing) for row in rows.rows)


def test_tables_for_a_paper_say_what_the_report_says(folder: Path) -> None:
    written, found, _ = write_report(arguments(folder))
    names = {path.name for path in (written / "tables").iterdir()}
    assert names == {f"{name}.{kind}" for name in ("scores", "differences", "cost", "chart") for kind in ("csv", "tex")}
    rows = list(csv.DictReader(io.StringIO((written / "tables" / "scores.csv").read_text(encoding="utf-8"))))
    lora = next(row for row in rows if (row["system"], row["metric"]) == ("lora", "ROUGE-1 ↑"))
    assert (lora["mean"], lora["interval"]) == ("0.260", "[0.245, 0.275]")
    tex = (written / "tables" / "differences.tex").read_text(encoding="utf-8")
    assert tex.count(r"\\") == len(found["comparisons"]) + 2 and r"\begin{longtable}" in tex
    assert not re.search(r"(?<!\\)[%&_#](?! )", tex.split("\n", 1)[1].replace(" & ", ""))
    methods = (written / "methods.md").read_text(encoding="utf-8")
    assert "We kept 320 of 360" in methods and "30 steps, seed 42" in methods and "No clinician rated" in methods


@pytest.mark.parametrize(
    ("text", "expected"), [("50 % & a_b", r"50 \% \& a\_b"), ("−0.1 < x\\", r"$-$0.1 $<$ x\textbackslash{}")]
)
def test_latex_is_escaped(text: str, expected: str) -> None:
    assert paper.latex(text) == expected


def test_below_the_first_two_screens_everything_is_folded(folder: Path) -> None:
    written, _, _ = write_report(arguments(folder))
    text = (written / "report.html").read_text(encoding="utf-8")
    top = re.sub(r"<details.*?</details>", "", text, flags=re.S)
    assert Page(text).open == [] and text.index("Better?") < text.index('id="safety"') < text.index("<h2>Scores on")
    assert top.count("<table") == 1 and "<details open" not in text
    assert len(re.sub(r"<(style|script).*?</\1>|<[^>]*>", " ", top, flags=re.S).split()) < 600
