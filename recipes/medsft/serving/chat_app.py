"""The chat page: every arm answers side by side under a letter; the names appear after a vote."""

import html
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NotRequired, TypedDict

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported

import gradio as gr

from medsft.evaluation.metrics.red_flags import red_flags
from medsft.evaluation.review import votes
from medsft.files import write_json
from medsft.inference import adapter_pool
from medsft.records import Turn

NOTICE = (
    "**Not medical advice.** These are language models in a study; their answers may be wrong or dangerous, and no "
    "clinician has checked them. In an emergency call your local emergency number. What you type stays on this machine."
)
BANNER = "**Red flags in this message: {}.** A doctor would want this person seen urgently. Do the answers say so?"
LETTERS = "ABCDEFGH"
LONGEST_MESSAGE = 8_000  # characters; MedDialog's longest message has 2,500
LONGEST_ANSWER = 1_024  # tokens
FRAME = 0.3  # seconds between two updates: each costs the page about 0.2 s, during which nothing is generated

CSS = """
#red-flags { background: #fdecea; border-left: 5px solid #b3261e; padding: 10px 14px; }
footer { display: none; }
[id^="answer-"] .top-panel { display: none; }  /* its button would empty one box but not the conversation */
#tally { overflow-x: auto; }
#tally :is(th, td) { white-space: nowrap; }
"""


Pool = dict[str, adapter_pool.LoadedArm]


class Settings(TypedDict, total=False):
    """How the last answers were generated; empty before the first ones."""

    temperature: float
    max_new_tokens: int
    seed: int


class Conversation(TypedDict):
    """`arms` in the order of the letters, `turns` of each, the patient's red `flags`, turns when last `voted`."""

    arms: list[str]
    turns: dict[str, list[Turn]]
    settings: Settings
    flags: list[str]
    voted: NotRequired[int]


class Shown(TypedDict):
    """What the page shows while the arms answer: the banner (a gradio update) and the dialogue behind each letter."""

    banner: dict[str, Any]
    boxes: list[list[Turn]]


def build(pool: Pool, folder: Path, vote_file: Path) -> gr.Blocks:
    """The page over loaded arms. Votes are appended to `vote_file`; exports are written into `folder`."""
    choices = [f"{letter} is better" for letter in LETTERS[: len(pool)]] + [votes.TIE]
    with gr.Blocks(title="medsft chat", analytics_enabled=False) as page:
        gr.Markdown(f"# Arms side by side\n{NOTICE}", elem_id="notice")
        if text := next(iter(pool.values())).system["text"]:  # the same for all arms of a study
            gr.Textbox(text, label="Asked after this text of the training rows", interactive=False, elem_id="system")
        state = gr.State(lambda: new_conversation([*pool]))
        banner = gr.Markdown(visible=False, elem_id="red-flags")
        with gr.Row():
            # No Markdown, and escaped: no picture is fetched, no markup runs, the text is shown verbatim.
            boxes = [
                gr.Chatbot(
                    label=letter, elem_id=f"answer-{letter}", render_markdown=False, height=380, buttons=["copy"]
                )
                for letter in LETTERS[: len(pool)]
            ]
        with gr.Row():
            message = gr.Textbox(
                label="Patient",
                placeholder="Write as a patient would.",
                elem_id="message",
                scale=6,
                max_length=LONGEST_MESSAGE,
            )
            send = gr.Button("Send", variant="primary", elem_id="send")
            again = gr.Button("New conversation", elem_id="new")
        with gr.Row():
            choice = gr.Radio(choices, label="Which answer is better? A vote shows the names.", elem_id="choice")
            keep_texts = gr.Checkbox(False, label="store the conversation with the vote", elem_id="keep-texts")
            vote = gr.Button("Vote", elem_id="vote")
        names = gr.Markdown(elem_id="names")
        tally = gr.Markdown(shown_votes(vote_file), elem_id="tally")
        with gr.Accordion("Settings", open=False):
            temperature = gr.Slider(0, 2, 0, step=0.1, label="temperature (0: always the likeliest token)")
            limit = gr.Slider(8, LONGEST_ANSWER, 128, step=8, label="longest answer in tokens", elem_id="limit")
            seed = gr.Number(42, label="seed", precision=0, minimum=0)
            export = gr.Button("Export this conversation", elem_id="export")
            exported = gr.Textbox(label="written to", interactive=False, elem_id="exported")

        def talk(text: str, now: Conversation, heat: float, longest: int, start: int) -> Iterator[tuple[object, ...]]:
            for shown in turn(pool, text, now, heat, int(longest), int(start)):
                yield shown["banner"], "", now, *shown["boxes"]

        def cast_vote(chosen: str | None, now: Conversation, keep: bool) -> tuple[str, str]:
            return take_vote(chosen, now, keep, vote_file), shown_votes(vote_file)

        asked, answered = [message, state, temperature, limit, seed], [banner, message, state, *boxes]
        for event in (send.click, message.submit):
            event(talk, asked, answered, concurrency_id="model", concurrency_limit=1)
        vote.click(cast_vote, [choice, state, keep_texts], [names, tally])
        blank: tuple[object, ...] = ("", None, gr.update(visible=False), *([[]] * len(boxes)))
        again.click(lambda: (new_conversation([*pool]), *blank), None, [state, names, choice, banner, *boxes])
        export.click(lambda now: str(write_conversation(now, folder)), state, exported)
    return page


def theme() -> gr.Theme:
    """System fonts: gradio's own themes may ask a font server."""
    return gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])


def new_conversation(arms: list[str]) -> Conversation:
    """No turns yet, and the arms behind the letters in a new random order."""
    return {"arms": random.sample(arms, len(arms)), "turns": {arm: [] for arm in arms}, "settings": {}, "flags": []}


def turn(pool: Pool, text: str, now: Conversation, heat: float, longest: int, seed: int) -> Iterator[Shown]:
    """Let every arm answer `text` and yield what the page shows, until all answers are complete.

    Raises gr.Error, which the page shows, for a message that cannot be answered; it leaves no turn behind.
    """
    text, longest = text.strip(), min(max(longest, 1), LONGEST_ANSWER)
    if not text:
        raise gr.Error("Write what the patient says first.", print_exception=False)
    if len(text) > LONGEST_MESSAGE:
        raise gr.Error(f"Write at most {LONGEST_MESSAGE:,} characters at once.", print_exception=False)
    asked: Turn = {"role": "user", "content": text}
    for arm in now["arms"]:
        turns = now["turns"][arm]
        if turns and turns[-1]["role"] == "user":  # the page was closed or reloaded before the answer was complete
            turns.pop()
        if not adapter_pool.has_room(pool[arm], [*turns, asked], longest):  # type: ignore[list-item]
            raise gr.Error(
                "This conversation is longer than the models can read; start a new one.", print_exception=False
            )
    for arm in now["arms"]:
        now["turns"][arm].append(asked)
    now["flags"] += [flag for flag in red_flags(text) if flag not in now["flags"]]
    now["settings"] = {"temperature": heat, "max_new_tokens": longest, "seed": seed}
    banner = gr.update(visible=bool(now["flags"]), value=BANNER.format(", ".join(now["flags"])))
    answers = {
        arm: adapter_pool.answer(pool[arm], now["turns"][arm], longest, heat, seed)  # type: ignore[arg-type]
        for arm in now["arms"]
    }
    shown_at, texts = 0.0, dict.fromkeys(answers, "")
    for texts in adapter_pool.side_by_side(answers):
        if time.monotonic() - shown_at > FRAME:
            shown_at = time.monotonic()
            yield {"banner": banner, "boxes": [_escaped(now["turns"][arm], texts[arm] + " …") for arm in now["arms"]]}
    for arm in now["arms"]:
        now["turns"][arm].append({"role": "assistant", "content": texts[arm].strip()})
    yield {"banner": banner, "boxes": [_escaped(now["turns"][arm]) for arm in now["arms"]]}


def _escaped(turns: list[Turn], unfinished: str = "") -> list[Turn]:
    """A dialogue as the page shows it, with an answer that is still growing where there is one."""
    growing: list[Turn] = [{"role": "assistant", "content": unfinished}] if unfinished else []
    return [{"role": turn["role"], "content": html.escape(turn["content"])} for turn in [*turns, *growing]]


def take_vote(chosen: str | None, now: Conversation, keep_texts: bool, vote_file: Path) -> str:
    """Store the vote and return the names; one vote for each number of turns."""
    turns = len(now["turns"][now["arms"][0]]) // 2
    if not chosen or not turns:
        raise gr.Error("Let the arms answer and choose one first.", print_exception=False)
    if now.get("voted") == turns:
        raise gr.Error("You have voted on this answer; send another message.", print_exception=False)
    choice = votes.TIE if chosen == votes.TIE else now["arms"][LETTERS.index(chosen[0])]
    row = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "arms": now["arms"],
        "choice": choice,
        "turns": turns,
        "settings": now["settings"],
        "red_flags": now["flags"],
    }
    votes.store(vote_file, row | ({"dialogues": now["turns"]} if keep_texts else {}))
    now["voted"] = turns
    return "Behind the letters: " + ", ".join(f"{LETTERS[i]} = `{arm}`" for i, arm in enumerate(now["arms"]))


def shown_votes(vote_file: Path) -> str:
    """The votes so far as a Markdown table."""
    rows = votes.table(vote_file)
    if not rows:
        return "No votes yet."
    lines = ["| arm | against | won | lost | ties | share won [95 %] | p |", "|---|---|--:|--:|--:|---|--:|"]
    for row in rows:
        share = "–" if row["share"] is None else f"{row['share']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
        counts = f"{row['wins']} | {row['losses']} | {row['ties']}"
        lines.append(f"| `{row['arm']}` | `{row['other']}` | {counts} | {share} | {row['p']:.3f} |")
    return "\n".join(
        [*lines, "", "Wilson interval and exact sign test, ties left out; votes of one sitting are not independent."]
    )


def write_conversation(now: Conversation, folder: Path) -> Path:
    """Write the conversation with each arm as JSON into `folder`; returns the file."""
    path = folder / f"conversation-{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(3).hex()}.json"
    write_json(path, {"notice": NOTICE, **now})
    return path
