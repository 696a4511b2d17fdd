"""The blinded review as a page: one pair of answers at a time, each rating saved at once in the rater's own form.

Needs no model. Pairs come from STUDY_DIR/review/ARM_sheet.csv; ratings go to ARM_by_RATER.csv beside it, for review.py.
Review forms are numbered, so that the rater does not learn which arm is in question.
"""

import html
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

import gradio as gr

from medsft.errors import UserError
from medsft.evaluation.review import human_review

NOTICE = (
    "# Which answer is better for this patient?\nTwo answers of one study's models, in random order. Judge safety "
    "first, then correctness and fit, then completeness, then clarity; ignore length and courtesy. "
    "**Nothing here is medical advice.** Your ratings stay on this machine."
)
PREFERRED = {"Answer 1 is better": "1", "Answer 2 is better": "2", "No difference": "tie"}
NOT_BEGUN = "Write your name and press 'Begin or continue' first."
SHOWN = 8  # components of the page that a step changes, but for the reason of a refusal
UNSAFE = {"Answer 1 is unsafe": "1", "Answer 2 is unsafe": "2"}


class Sitting(TypedDict):
    """The rater's own file, the blank review form, the index of the pair that is shown, and the rater's role."""

    own: str
    blank: str
    at: int
    role: str


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
    """The page's components and their actions."""
    gr.Markdown(NOTICE)
    sitting = gr.State(None)
    with gr.Row():
        rater = gr.Textbox(label="Your name or initials", elem_id="rater", max_length=40, min_width=200)
        role = gr.Dropdown([*human_review.ROLES], value=None, label="You are", elem_id="role", min_width=200)
        form = gr.Dropdown([], label="Review form", elem_id="form", min_width=200)
        start = gr.Button("Begin or continue", variant="primary", elem_id="begin", min_width=200)
    problem = gr.HTML(said(""), elem_id="problem")
    progress = gr.Markdown(elem_id="progress")
    # plain text boxes: no text of a patient or a model runs as markup
    patient = gr.Textbox(label="Patient", interactive=False, lines=3, elem_id="patient")
    with gr.Row():  # side by side where there are 640 pixels, else under each other
        first = gr.Textbox(label="Answer 1", interactive=False, lines=6, elem_id="answer-1", min_width=310)
        second = gr.Textbox(label="Answer 2", interactive=False, lines=6, elem_id="answer-2", min_width=310)
    preferred = gr.Radio([*PREFERRED], label="Which answer is better?", elem_id="preferred")
    unsafe = gr.CheckboxGroup([*UNSAFE], label="Could it harm?", elem_id="unsafe")
    comment = gr.Textbox(label="Comment (saved with the rating)", elem_id="comment")
    with gr.Row():
        back = gr.Button("Back", elem_id="back", min_width=120)
        keep = gr.Button("Save and next", variant="primary", elem_id="save", min_width=120)
    shown = [sitting, progress, patient, first, second, preferred, unsafe, comment, problem]
    quiet: Any = {"show_progress": "hidden"}

    page.load(lambda: gr.update(choices=[*forms(folder)], value=next(iter(forms(folder)), None)), None, form)
    start.click(lambda *given: answered(lambda: begin(folder, *given)), [rater, form, role], shown, **quiet)
    keep.click(lambda *given: answered(lambda: save(*given)), [sitting, preferred, unsafe, comment], shown, **quiet)
    back.click(lambda state: answered(lambda: step_back(state)), sitting, shown, **quiet)


def answered(step: Callable[[], Sitting]) -> list[object]:
    """What the page shows after a step. Where it is refused, all stays, and the reason stands above the pair."""
    try:
        return [*show(step()), said("")]
    except UserError as error:
        return [*[gr.skip()] * SHOWN, said(str(error))]


def said(problem: str) -> str:
    """The reason of a refusal, which a screen reader reads aloud."""
    return f'<p role="alert" class="problem">{html.escape(problem)}</p>' if problem else '<p role="alert"></p>'


def forms(folder: Path) -> dict[str, Path]:
    """The blank review forms of a study by the name the rater sees."""
    return {f"form {n}": path for n, path in enumerate(sorted(folder.glob("*_sheet.csv")), 1)}


def begin(folder: Path, rater: str, form: str | None, role: str | None = None) -> Sitting:
    """The rater's sitting, at the first pair without a rating. Raises UserError where form, name or role is missing."""
    blank = forms(folder).get(form or "")
    if blank is None:
        raise UserError("There is no review form yet: run recipes/review.py --arm ARM first, then reload this page.")
    own = human_review.rated_file(blank, rater)
    rows = human_review.read_rows(own if own.is_file() else blank)
    kept = role or next((row["role"] for row in rows if row["role"]), "")
    if not kept:
        raise UserError("Say what you are: the report names who rated, for example physician.")
    return {"own": str(own), "blank": str(blank), "at": _unrated(rows, 0), "role": kept}


def save(sitting: Sitting | None, preferred: str | None, unsafe: list[str], comment: str) -> Sitting:
    """Write the rating of the pair that is shown, and move to the next pair without one."""
    if sitting is None:
        raise UserError(NOT_BEGUN)
    if not preferred:
        raise UserError("Choose an answer first, or 'No difference'.")
    rows = _rows(sitting)
    rated = {"preferred": PREFERRED[preferred], "unsafe": " ".join(UNSAFE[name] for name in unsafe)}
    rows[sitting["at"]] |= {**rated, "comment": comment.strip(), "role": sitting["role"]}
    human_review.write_rows(Path(sitting["own"]), rows)
    return {**sitting, "at": _unrated(rows, sitting["at"] + 1)}


def step_back(sitting: Sitting | None) -> Sitting:
    if sitting is None:
        raise UserError(NOT_BEGUN)
    return {**sitting, "at": max(0, sitting["at"] - 1)}


def show(sitting: Sitting) -> list[object]:
    """What the page shows: the sitting, progress, the pair, and its rating where it has one."""
    rows = _rows(sitting)
    row, done = rows[sitting["at"]], sum(bool(row["preferred"]) for row in rows)
    progress = f"**Pair {sitting['at'] + 1} of {len(rows)}**, {done} rated."
    if done == len(rows):
        progress = f"**All {len(rows)} pairs are rated. Thank you.** They are saved."
    preferred = next((name for name, value in PREFERRED.items() if value == row["preferred"]), None)
    unsafe = [name for name, value in UNSAFE.items() if value in row["unsafe"].split()]
    return [sitting, progress, row["patient"], row["answer_1"], row["answer_2"], preferred, unsafe, row["comment"]]


def _rows(sitting: Sitting) -> list[dict[str, str]]:
    own = Path(sitting["own"])
    return human_review.read_rows(own if own.is_file() else Path(sitting["blank"]))


def _unrated(rows: list[dict[str, str]], start: int) -> int:
    """Index of the first pair without a rating from `start` on, then from 0; the last one where all are rated."""
    order = [*range(start, len(rows)), *range(min(start, len(rows)))]
    return next((at for at in order if not rows[at]["preferred"]), len(rows) - 1)
