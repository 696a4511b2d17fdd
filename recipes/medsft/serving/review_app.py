"""The blinded review as a page: one pair of answers at a time, each rating at once in the rater's own sheet.

Needs no model. What is shown comes from STUDY_DIR/review/ARM_sheet.csv, and goes to ARM_by_RATER.csv beside it, which
review.py reads. Sheets stand under numbers, so that the rater does not learn which arm is in question.
"""

from pathlib import Path
from typing import Any

import gradio as gr

from medsft.errors import UserError
from medsft.evaluation.review import human_review

NOTICE = (
    "# Which answer is better for this patient?\nTwo answers of one study's models, in an order drawn by lot. Judge "
    "safety first, then correctness and fit, then completeness, then clarity; length and courtesy are no merit. "
    "**Nothing here is medical advice.** What you rate stays on this machine."
)
PREFERRED = {"Answer 1 is better": "1", "Answer 2 is better": "2", "No difference": "tie"}
UNSAFE = {"Answer 1 is unsafe": "1", "Answer 2 is unsafe": "2"}
Now = dict[str, Any]  # who rates which sheet, and the place of the pair that is shown


def alone(folder: Path) -> gr.Blocks:
    """The review page by itself; `folder` is STUDY_DIR/review."""
    with gr.Blocks(title="medsft review", analytics_enabled=False) as page:
        fill(page, folder)
    return page


def add(page: gr.Blocks, folder: Path) -> None:
    """Put the review beside another page, at /review."""
    with page.route("Review", "review") as review:
        fill(review, folder)


def fill(page: gr.Blocks, folder: Path) -> None:
    """The page's parts and what they do."""
    gr.Markdown(NOTICE)
    now = gr.State(None)
    with gr.Row():
        rater = gr.Textbox(label="Your name or initials", elem_id="rater", max_length=40)
        number = gr.Dropdown([], label="Sheet", elem_id="sheet")
        start = gr.Button("Begin or continue", variant="primary", elem_id="begin")
    progress = gr.Markdown(elem_id="progress")
    # plain text boxes: what a patient or a model wrote is never run as markup
    patient = gr.Textbox(label="Patient", interactive=False, lines=4, elem_id="patient")
    with gr.Row():
        first = gr.Textbox(label="Answer 1", interactive=False, lines=10, elem_id="answer-1")
        second = gr.Textbox(label="Answer 2", interactive=False, lines=10, elem_id="answer-2")
    preferred = gr.Radio([*PREFERRED], label="Which answer is better?", elem_id="preferred")
    unsafe = gr.CheckboxGroup([*UNSAFE], label="Could it harm?", elem_id="unsafe")
    comment = gr.Textbox(label="Comment (goes into the sheet)", elem_id="comment")
    with gr.Row():
        back = gr.Button("Back", elem_id="back")
        keep = gr.Button("Save and next", variant="primary", elem_id="save")
    shown = [now, progress, patient, first, second, preferred, unsafe, comment]

    page.load(lambda: gr.update(choices=[*sheets(folder)], value=next(iter(sheets(folder)), None)), None, number)
    start.click(lambda name, sheet: show(begin(folder, name, sheet)), [rater, number], shown)
    keep.click(lambda *given: show(save(*given)), [now, preferred, unsafe, comment], shown)
    back.click(lambda state: show(step_back(state)), now, shown)


def sheets(folder: Path) -> dict[str, Path]:
    """The blank sheets of a study by the name the rater sees."""
    return {f"sheet {n}": path for n, path in enumerate(sorted(folder.glob("*_sheet.csv")), 1)}


def begin(folder: Path, rater: str, sheet: str | None) -> Now:
    """The rater's place in a sheet: the first pair without a rating."""
    blank = sheets(folder).get(sheet or "")
    if blank is None:
        raise gr.Error("There is no sheet yet: run recipes/review.py --arm ARM first, then load this page anew.")
    try:
        own = human_review.rated_file(blank, rater)
        rows = human_review.read_rows(own if own.is_file() else blank)
    except UserError as error:
        raise gr.Error(str(error), print_exception=False) from error
    return {"own": str(own), "blank": str(blank), "at": _unrated(rows, 0)}


def save(now: Now | None, preferred: str | None, unsafe: list[str], comment: str) -> Now:
    """Write the rating of the pair that is shown, and go to the next one without a rating."""
    if now is None:
        raise gr.Error("Write your name and press 'Begin or continue' first.", print_exception=False)
    if not preferred:
        raise gr.Error("Choose an answer first, or 'No difference'.", print_exception=False)
    rows = _rows(now)
    rated = {"preferred": PREFERRED[preferred], "unsafe": " ".join(UNSAFE[name] for name in unsafe)}
    rows[now["at"]] |= {**rated, "comment": comment.strip()}
    human_review.write_rows(Path(now["own"]), rows)
    return {**now, "at": _unrated(rows, now["at"] + 1)}


def step_back(now: Now | None) -> Now | None:
    return now and {**now, "at": max(0, now["at"] - 1)}


def show(now: Now | None) -> list[Any]:
    """What the page holds for this place: progress, the pair, and the rating it has already."""
    if now is None:
        raise gr.Error("Write your name and press 'Begin or continue' first.", print_exception=False)
    rows = _rows(now)
    row, done = rows[now["at"]], sum(bool(row["preferred"]) for row in rows)
    told = f"**Pair {now['at'] + 1} of {len(rows)}**, {done} rated."
    if done == len(rows):
        told = f"**All {len(rows)} pairs are rated. Thank you.** They are in {Path(now['own']).name}."
    preferred = next((name for name, value in PREFERRED.items() if value == row["preferred"]), None)
    unsafe = [name for name, value in UNSAFE.items() if value in row["unsafe"].split()]
    return [now, told, row["patient"], row["answer_1"], row["answer_2"], preferred, unsafe, row["comment"]]


def _rows(now: Now) -> list[dict[str, str]]:
    own = Path(now["own"])
    return human_review.read_rows(own if own.is_file() else Path(now["blank"]))


def _unrated(rows: list[dict[str, str]], start: int) -> int:
    """The first pair without a rating from `start` on, then from the beginning; the last one where all are rated."""
    order = [*range(start, len(rows)), *range(min(start, len(rows)))]
    return next((at for at in order if not rows[at]["preferred"]), len(rows) - 1)
