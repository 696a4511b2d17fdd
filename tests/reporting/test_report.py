"""The report on synthetic study folders: what it writes and says, and that it is safe to open."""

import json
import re
import struct
from pathlib import Path

import pytest

from conftest import run_script
from medsft.errors import UserError
from medsft.files import read_json, write_jsonl
from medsft.reporting.rendering import script_hash
from medsft.reporting.report import write_report
from medsft.reporting.study import load_study
from medsft.reporting.summary import examples
from medsft.source_study import published_scores
from synthetic_study import (
    HOSTILE,
    SIZE,
    Page,
    arguments,
    dump,
    make_study,
    strict_json,
)


@pytest.fixture(scope="module")
def full_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, _, _ = write_report(arguments(make_study(tmp_path_factory.mktemp("study"))))
    return folder


def test_results_hold_the_contract(full_report: Path) -> None:
    results = strict_json(full_report / "results.json")
    assert list(results["arms"]) == ["baseline", "lora", "qlora", "full"]
    for arm in results["arms"].values():
        assert arm["n"] == SIZE
        assert all(value["low"] <= value["mean"] <= value["high"] for value in arm["metrics"].values())
    assert list(results["floors"]) == ["constant", "shuffled", "echo", "nearest"]
    assert {"metric", "baseline", "arm", "difference", "low", "high", "p", "p_holm", "n"} <= results["comparisons"][
        0
    ].keys()
    assert results["memory"]["qlora"]["measured"]["host_bytes"] == 3_100_000_000
    assert results["memory"]["qlora"]["predicted"]["host_bytes"] == 2_900_000_000
    assert results["cost"]["full"]["wall_seconds"] == 93.4 and results["cost"]["full"]["tokens_seen"] == 41_234
    assert results["data"]["rows_kept"] == 320 and "lengths" not in results["data"]
    assert results["versions"]["baseline"]["torch"] == "2.13.0"
    assert len(results["fingerprint"]) == 16


def test_study_table_is_the_published_one_beside_ours(full_report: Path) -> None:
    rows = {row["metric"]: row for row in strict_json(full_report / "results.json")["study_table"]}
    assert (rows["rougeL"]["published_baseline"], rows["rougeL"]["published_finetuned"]) == (0.0678, 0.1043)
    assert rows["rouge1"]["published_n"] == 1
    assert rows["rouge1"]["ours"]["lora"]["mean"] == pytest.approx(0.26)


@pytest.mark.parametrize(
    ("metric", "base_hits", "tuned_hits", "per_text"), [("rouge1", 6, 7, 0), ("rouge2", 1, 2, 1), ("rougeL", 4, 6, 0)]
)
def test_published_rouge_inverts_to_whole_counts(metric: str, base_hits: int, tuned_hits: int, per_text: int) -> None:
    """F1 = 2 hits / (length + 14), with 104 and 101 tokens against a reference of 14; a bigram fewer on both sides."""
    row = next(row for row in published_scores.TABLE_5 if row.metric == metric)
    assert round(2 * base_hits / (104 + 14 - 2 * per_text), 4) == row.baseline
    assert round(2 * tuned_hits / (101 + 14 - 2 * per_text), 4) == row.fine_tuned


@pytest.mark.parametrize("name", ["quality_cost", "loss", "scores", "lengths"])
def test_figures_are_pngs_of_a_sensible_size(full_report: Path, name: str) -> None:
    content = (full_report / "figures" / f"{name}.png").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n" and content[12:16] == b"IHDR"
    width, height = struct.unpack(">II", content[16:24])
    assert 900 <= width <= 1200 and 400 <= height <= 2000


def test_page_is_self_contained_and_well_formed(full_report: Path) -> None:
    text = (full_report / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert not {"iframe", "link", "object", "embed", "form"} & set(page.tags)
    assert page.tags.count("script") == 1 and f"script-src '{script_hash()}'" in text
    assert page.events == []
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in page.addresses)
    assert sum(address.startswith("data:") for address in page.addresses) == 5 == page.tags.count("img")
    for file in ("lora/scores.json", "comparison.json", "full/train.json", "data/data_report.json", "plan.json"):
        assert file in page.titles


def test_columns_have_a_head_and_landmarks_a_name_of_their_own(full_report: Path) -> None:
    html = (full_report / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"<th[^>]*>\s*</th>", html)
    names = re.findall(r'aria-label="([^"]*)"', html)
    assert len(names) > 10 and len(set(names)) == len(names)


def test_every_number_in_a_table_names_its_file(full_report: Path) -> None:
    html = (full_report / "report.html").read_text(encoding="utf-8")
    cells = re.findall(r"<td([^>]*)>(.*?)</td>", html, flags=re.S)
    numbers = [(attributes, text) for attributes, text in cells if re.search(r"\d", text)]
    assert len(numbers) > 200
    assert [text for attributes, text in numbers if "title=" not in attributes] == []


def test_hostile_dialogue_is_text_in_both_forms(tmp_path: Path) -> None:
    study = make_study(tmp_path, ("baseline", "lora"))
    folder, _, _ = write_report(arguments(study, examples=SIZE))  # every row, so the hostile one too
    html, markdown = ((folder / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    assert "<script" not in markdown and html.count("<script") == 1
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "onerror" in Page(html).text and "<img src=http" not in html + markdown


def test_texts_are_whole_in_the_page_and_the_short_form_has_none(tmp_path: Path) -> None:
    study = make_study(tmp_path, ("baseline",), hostile="word " * 400)
    folder, _, _ = write_report(arguments(study, examples=SIZE))
    assert "word " * 399 in (folder / "report.html").read_text(encoding="utf-8")
    assert "word word" not in (folder / "report.md").read_text(encoding="utf-8")


def test_the_short_form_is_two_pages(full_report: Path) -> None:
    """A printed page holds about 700 words of such text and tables."""
    words = (full_report / "report.md").read_text(encoding="utf-8").split()
    assert sum(any(sign.isalnum() for sign in word) for word in words) < 1_400


@pytest.mark.slow
@pytest.mark.parametrize("arms", [("baseline",), ("baseline", "full")])
def test_smaller_studies_without_a_plan(tmp_path: Path, arms: tuple[str, ...]) -> None:
    study = make_study(tmp_path, arms)
    (study / "plan.json").unlink()
    folder, results, _ = write_report(arguments(study))
    assert tuple(results["arms"]) == arms
    assert "no plan.json" in (folder / "report.md").read_text(encoding="utf-8")
    assert len(results["verdict"]) == 3 and "44 test dialogues" in results["verdict"][0]
    assert ("Nothing can be said" in results["verdict"][1]) == (arms == ("baseline",))
    assert ("No arm of this study was trained" in (folder / "report.html").read_text(encoding="utf-8")) == (
        len(arms) == 1
    )


def test_examples_are_the_worst_and_then_drawn_by_seed_among_rows_that_all_answered(tmp_path: Path) -> None:
    study = make_study(tmp_path, ("baseline", "lora"))
    lines = (study / "lora" / "generations.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (study / "lora" / "generations.jsonl").write_text("".join(lines[:30]), encoding="utf-8")
    scores = json.loads((study / "lora" / "scores.json").read_text(encoding="utf-8"))
    dump(study / "lora" / "scores.json", scores | {"n": 30})
    write_jsonl(
        study / "lora" / "scores_per_example.jsonl",
        [
            {"id": "row-7", "group": "g", "red_flag_recall": 0.0, "loop": 0.0},
            {"id": "row-8", "group": "g", "red_flag_recall": 1.0, "loop": 1.0},
            {"id": "row-9", "group": "g", "red_flag_recall": None, "loop": 0.0},
        ],
    )
    loaded = load_study(study)
    drawn = [examples.draw(loaded, 6, seed) for seed in (1, 1, 2)]
    ids = [[row["id"] for row in some] for some in drawn]
    assert ids[0] == ids[1] and ids[0][:3] == ids[2][:3] == ["row-7", "row-8", "row-0"] and ids[0][3:] != ids[2][3:]
    assert drawn[0][0]["why"] == ["an emergency not sent to urgent care by: lora"]
    assert drawn[0][1]["why"] == ["a loop or an invented identity in: lora"]
    assert drawn[0][2]["why"] == ["cut at the limit: baseline, lora"] and drawn[0][3]["why"][0] == "drawn by seed"
    everything = examples.draw(loaded, 1000, 1)
    assert {row["id"] for row in everything} == {f"row-{i}" for i in range(30)}
    assert set(everything[0]["answers"]) == {"baseline", "lora"}


def test_arm_names_cannot_break_the_figures(tmp_path: Path) -> None:
    study = make_study(tmp_path, ("baseline", "lora"))
    (study / "lora").rename(study / "a$b_{c$<i>|")
    folder, results, _ = write_report(arguments(study))
    assert "a$b_{c$<i>|" in results["arms"]
    assert "<i>" not in (folder / "report.html").read_text(encoding="utf-8") + (folder / "report.md").read_text(
        encoding="utf-8"
    )


@pytest.mark.slow
def test_script_prints_the_four_lines_and_the_paths(tmp_path: Path) -> None:
    study = make_study(tmp_path, ("baseline", "lora"))
    done = run_script("report.py", "--study_dir", study, "--examples", "2", "--title", "A & B <b>")
    assert done.returncode == 0, done.stderr
    glance = read_json(study / "report" / "results.json")["glance"]
    assert len(glance) == 4 and all(f"{name} {text}" in done.stdout for name, text in glance.items())
    assert str(study / "report" / "report.html") in done.stdout
    assert "<h1>A &amp; B &lt;b&gt;</h1>" in (study / "report" / "report.html").read_text(encoding="utf-8")
    assert HOSTILE not in done.stdout + done.stderr


def test_words_that_the_baseline_does_not_say_are_marked(full_report: Path) -> None:
    text = (full_report / "report.html").read_text(encoding="utf-8")
    assert "<ins>lora</ins>" in text and "<ins>baseline</ins>" not in text


@pytest.mark.slow
def test_price_is_the_wall_time_at_the_rate_given(tmp_path: Path) -> None:
    study = make_study(tmp_path, ("baseline", "lora"))
    folder, results, _ = write_report(arguments(study, hourly_rate=2.5))
    assert results["price"] == {"lora": pytest.approx(93.4 / 3600 * 2.5, abs=1e-4)}
    for name in ("report.html", "report.md"):
        assert "price of the wall time at 2.50 an hour" in (folder / name).read_text(encoding="utf-8")
    _, results, _ = write_report(arguments(study))
    assert results["price"] == {}
    with pytest.raises(UserError, match="hourly_rate -1"):
        write_report(arguments(study, hourly_rate=-1.0))


@pytest.mark.slow
def test_energy_is_shown_where_a_device_reported_it(tmp_path: Path) -> None:
    study = make_study(tmp_path, ("baseline", "lora", "full"))
    folder, _, _ = write_report(arguments(study))
    assert "no device of this study reported any" in (folder / "report.md").read_text(encoding="utf-8")
    train = json.loads((study / "lora" / "train.json").read_text())
    dump(study / "lora" / "train.json", train | {"energy_joules": 51_234.0})
    folder, _, _ = write_report(arguments(study))
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    assert "| energy of the steps, J, as the device reports it | 51,234 | – |" in markdown


def test_the_source_studys_setup_and_memory_stand_beside_ours(full_report: Path) -> None:
    text = (full_report / "report.html").read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if ">trainable weights" in line)
    assert "0.57" in row and row.count("3.63") == 2 and ">100 %<" in row
    assert "Table 4" in text and "98.00 GB" in text.replace("\u00a0", " ") or "98.0 GB" in text.replace("\u00a0", " ")


def test_duplicates_and_samples_are_shown_by_source_and_rule(full_report: Path) -> None:
    page = (full_report / "report.html").read_text(encoding="utf-8")
    row = next(line for line in page.splitlines() if '<th scope="row">clinic</th>' in line)
    assert re.findall(r">(\d+)</td>", row) == ["240", "5", "30", "11", "205"]
    assert "Rest.&lt;br&gt;Drink &lt;script&gt;" in page and "forum &lt;b&gt;" in page
    assert "never sit on two sides" in page and "share a group with a training row" not in page


def test_leaking_rows_of_the_studys_split_are_named(tmp_path: Path) -> None:
    study = make_study(tmp_path, ("baseline",))
    path = study / "data" / "data_report.json"
    dump(path, strict_json(path) | {"leaking": 87})
    folder, _, _ = write_report(arguments(study))
    for name in ("report.html", "report.md"):
        text = (folder / name).read_text(encoding="utf-8")
        assert "87 held-out rows share a group with a training row" in text and "never sit on two sides" not in text
