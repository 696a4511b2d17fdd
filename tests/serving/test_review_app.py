"""The review page: a clinician's ratings reach a file that review.py reads; in a real browser, without a model."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import run_script
from medsft.errors import UserError
from medsft.evaluation.review import human_review, spreadsheets
from medsft.evaluation.review.human_review import Pair
from medsft.files import read_json, write_jsonl
from pages_in_browser import browser, serve  # noqa: F401 - a fixture

HOSTILE = "=My knee hurts. <script>window.hacked = 1</script> ![x](http://evil.example/x.png)"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two answered arms and the review form that review.py draws from them."""
    folder = tmp_path_factory.mktemp("review") / "study"
    for arm in ("baseline", "lora"):
        rows = [
            {"id": i, "group": f"g{i}", "source": "s", "prompt": HOSTILE, "reference": "Rest.", "stopped": True}
            | {"new_tokens": 4, "prediction": f"{arm == 'lora' and 'Rest it' or 'Cut it off'} {i}."}
            for i in range(4)
        ]
        write_jsonl(folder / arm / "generations.jsonl", rows)
    done = run_script("review.py", "--study_dir", folder, "--arm", "lora", "--repeats", 0)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def page(browser: Any, study: Path) -> Iterator[tuple[Any, list[str], str]]:  # noqa: F811
    process, address = serve(study, "--review_only", "true")
    page, asked = browser.new_page(), []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    yield page, asked, address
    page.close()
    process.terminate()
    process.wait(timeout=30)


@pytest.mark.slow
def test_a_clinician_rates_every_pair_in_a_browser(page: tuple[Any, list[str], str], study: Path) -> None:
    window, asked, address = page
    window.wait_for_function("document.querySelector('#form input')?.value == 'form 1'")
    window.fill("#rater :is(input, textarea)", "Dr K")
    window.click("#begin")
    window.wait_for_selector("#problem >> text=Say what you are")
    window.click("#role input")
    window.click("text=physician")
    window.click("#begin")
    window.wait_for_selector("text=Pair 1 of 4")
    window.click("#save")
    window.wait_for_selector("#problem >> text=Choose an answer first")
    assert window.query_selector("text=Error") is None
    for pair in range(1, 5):
        window.wait_for_selector(f"text=Pair {pair} of 4")
        answers = [window.input_value(f"#answer-{side} textarea") for side in (1, 2)]
        better = 1 + answers.index(next(text for text in answers if text.startswith("Rest")))
        assert window.input_value("#patient textarea") == HOSTILE
        window.click(f"text=Answer {better} is better")
        window.click(f"text=Answer {3 - better} is unsafe")
        window.click("#save")
    window.wait_for_selector("text=All 4 pairs are rated")
    assert "lora" not in window.inner_text("body")
    assert window.evaluate("window.hacked") is None
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []

    done = run_script(
        "review.py", "--study_dir", study, "--arm", "lora", "--repeats", 0
    )  # reads the ratings of the page
    assert done.returncode == 0, done.stderr
    assert "Dr_K (physician): lora better in 4, equal in 0, worse in 0 of 4" in done.stdout
    found = read_json(study / "review" / "lora_review.json")["raters"]["Dr_K"]
    assert found["unsafe"]["marked"] == {"baseline": 4, "lora": 0}
    assert found["unsafe"]["difference"] == -1 and found["role"] == "physician"


@pytest.mark.slow
def test_a_rater_goes_on_where_the_last_sitting_ended(study: Path) -> None:
    from medsft.serving import review_app

    folder = study / "review"
    now = review_app.begin(folder, "ben", "form 1", "nurse")
    assert review_app.show(now)[1] == "**Pair 1 of 4**, 0 rated."
    now = review_app.save(now, "Answer 2 is better", ["Answer 1 is unsafe", "Answer 2 is unsafe"], "=1+1")
    now = review_app.save(now, "No difference", [], "")
    later = review_app.begin(folder, " ben ", "form 1")
    assert later == now and review_app.show(later)[1] == "**Pair 3 of 4**, 2 rated."
    earlier = review_app.show(review_app.step_back(review_app.step_back(later)))
    assert earlier[5:8] == ["Answer 2 is better", ["Answer 1 is unsafe", "Answer 2 is unsafe"], "=1+1"]
    with (folder / "lora_by_ben.csv").open(newline="") as handle:
        first = next(csv.DictReader(handle))
    assert (first["comment"], first["patient"][0]) == ("'=1+1", "'")  # no formula for a spreadsheet
    assert human_review.role_of(folder / "lora_by_ben.csv") == "nurse" == later["role"]
    rated = human_review.read_form(folder / "lora_by_ben.csv", folder / "lora_key.json")
    key = json.loads((folder / "lora_key.json").read_text())["1"]["key"]
    assert [row["choice"] for row in rated] == [key["answer_2"], "tie"]
    assert sorted(rated[0]["unsafe"]) == ["baseline", "lora"] and rated[1]["unsafe"] == []
    (folder / "lora_by_ben.csv").unlink()


def test_what_cannot_be_rated_is_refused(study: Path, tmp_path: Path) -> None:
    from medsft.serving import review_app

    folder = study / "review"
    for rater, form, role, message in (
        ("../x", "form 1", "nurse", "letters"),
        ("", "form 1", "nurse", "letters"),
        ("a", None, "nurse", "no review form"),
        ("a", "form 1", None, "Say what you are"),
    ):
        with pytest.raises(UserError, match=message):
            review_app.begin(folder, rater, form, role)
    now = review_app.begin(folder, "carl", "form 1", "nurse")
    for state, preferred, message in ((None, "No difference", "Write your name"), (now, None, "Choose")):
        with pytest.raises(UserError, match=message):
            review_app.save(state, preferred, [], "")
        shown = review_app.answered(lambda state=state, preferred=preferred: review_app.save(state, preferred, [], ""))
        assert len(shown) == review_app.SHOWN + 1 and message in str(shown[-1]) and 'role="alert"' in str(shown[-1])
    done = run_script("chat.py", "--study_dir", tmp_path, "--review_only", "true")
    assert done.returncode == 2 and "no review form to rate" in done.stderr


@pytest.mark.parametrize("name", ["Dr K", "  Müller ", "K. Osei-Bonsu"])
def test_names_may_have_blanks(study: Path, name: str) -> None:
    own = human_review.rated_file(study / "review" / "lora_sheet.csv", name)
    assert own.name == f"lora_by_{'_'.join(name.split())}.csv" and own.parent == study / "review"


def test_a_text_that_lost_its_signs_in_a_code_page_is_the_same_text() -> None:
    assert spreadsheets.in_code_page("≥ 3 \U0001f912") == spreadsheets.in_code_page("? 3 ??") == "? 3 ?"
    assert spreadsheets.in_code_page("Fièvre – “bad”") == "Fièvre – “bad”"


ODD = "Fièvre 39 °C – “bad” \U0001f912; 2 lines\nhere, ≥ 3 days"


@pytest.mark.parametrize("saved", ["utf-8", "utf-8-sig;", "cp1252;", "utf-16\t", "cp1252,", "sep;"])
def test_a_form_comes_back_from_any_spreadsheet(tmp_path: Path, saved: str) -> None:
    """As Excel saves: CSV UTF-8, in a country with semicolons, in the code page, as Unicode text."""
    pair: Pair = {"pair": 1, "id": "a", "group": "g", "patient": ODD, "answer_1": "=Rest.",
                  "answer_2": "Walk, then rest.",
                  "key": {"answer_1": "lora", "answer_2": "baseline"}, "repeat_of": None}  # fmt: skip
    form, key = tmp_path / "lora_sheet.csv", tmp_path / "lora_key.json"
    human_review.write_form([pair], form, key)
    rows = [{**row, "preferred": "1", "unsafe": "2", "role": "physician"} for row in human_review.read_rows(form)]
    encoding, delimiter = (saved[:-1], saved[-1]) if saved[-1] in ",;\t" else (saved, ",")
    first = "sep=;\r\n" if encoding == "sep" else ""
    text = io.StringIO()
    writer = csv.DictWriter(text, human_review.COLUMNS, delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    form.write_bytes((first + text.getvalue()).encode("utf-8" if first else encoding, "replace"))
    (rated,) = human_review.read_form(form, key)
    assert (rated["choice"], rated["unsafe"], human_review.role_of(form)) == ("lora", ["baseline"], "physician")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pair;patient;answer_1\n1;a;b\n", "field 'answer_2' is missing"),
        ("pair,patient,answer_1,answer_2,preferred,unsafe\n1,p,a,b,1,maybe\n", "field 'unsafe': 'maybe'"),
        ("pair,patient,answer_1,answer_2,preferred\n9,p,a,b,1\n", "not a pair of lora_key.json"),
        (b"PK\x03\x04\x81\x8d", "neither UTF-8 nor cp1252"),
    ],
)
def test_a_form_that_came_back_broken_is_refused(study: Path, tmp_path: Path, text: Any, message: str) -> None:
    sheet = tmp_path / "ben.csv"
    sheet.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=message):
        human_review.read_form(sheet, study / "review" / "lora_key.json")
