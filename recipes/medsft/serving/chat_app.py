"""The chat page: every arm answers side by side under a letter; the names appear after a vote."""

import html
import os
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict
from urllib.parse import urlparse

import gradio as gr

from medsft.errors import UserError
from medsft.evaluation.metrics.red_flags import red_flags
from medsft.evaluation.review import votes
from medsft.files import write_json
from medsft.inference import adapter_pool
from medsft.inference.http_json import LOOPBACK
from medsft.inference.served_arms import ServedArm
from medsft.records import Turn

NOTICE = (
    "**Not medical advice.** These are language models in a study; their answers may be wrong or dangerous, and no "
    "clinician has checked them. In an emergency call your local emergency number."
)
STAYS, GOES = "What you type stays on this machine.", "What you type is sent to {}."
BANNER = "**Red flags in this message: {}.** A doctor would want this person seen urgently. Do the answers say so?"
LETTERS = "ABCDEFGH"
LONGEST_MESSAGE = 8_000  # characters; MedDialog's longest message has 2,500
LONGEST_ANSWER = 1_024  # tokens
CUT = "\n[cut at {} tokens: the answer did not end; see Settings]"
FRAME = 0.3  # seconds between two updates: each costs the page about 0.2 s, during which nothing is generated

Pool = dict[str, adapter_pool.LoadedArm | ServedArm]


class Settings(TypedDict, total=False):
    """How the last answers were generated; empty before the first ones."""

    temperature: float
    max_new_tokens: int
    seed: int


class Conversation(TypedDict):
    """`arms` in the order of the letters, `turns` of each, the patient's red `flags`, turns when last `voted`.

    `cut`: by arm, at how many tokens which of its answers (counted from 0) ran into the limit. A vote shows the names:
    from then on the conversation is `unblinded`.
    """

    arms: list[str]
    turns: dict[str, list[Turn]]
    settings: Settings
    flags: list[str]
    cut: dict[str, dict[int, int]]
    voted: NotRequired[int]
    unblinded: NotRequired[bool]


class Shown(TypedDict):
    """What the page shows while the arms answer: updates of the banner and of what was asked, each letter's answers."""

    banner: dict[str, Any]
    asked: dict[str, Any]
    boxes: list[list[Turn]]


def build(pool: Pool, folder: Path, vote_file: Path, title: str = "Arms side by side") -> gr.Blocks:
    """The page over loaded arms. Votes are appended to `vote_file`; exports are written into `folder`."""
    letters = [*LETTERS[: len(pool)]]
    choices = [f"{letter} is better" for letter in letters] + [votes.TIE]
    # a model in this process answers one message after the other
    at_once = None if all(isinstance(arm, ServedArm) for arm in pool.values()) else 1
    with gr.Blocks(title="medsft chat", analytics_enabled=False) as page:
        gr.Markdown(f"# {title}\n{NOTICE} {where_words_go(pool)}", elem_id="notice")
        if text := next(iter(pool.values())).system["text"]:  # the same for all arms of a study
            gr.Textbox(text, label="Asked after this text of the training rows", interactive=False, elem_id="system")
        state = gr.State(lambda: new_conversation([*pool]))
        banner = gr.Markdown(visible=False, elem_id="red-flags")
        with gr.Row():  # above the answers: in reach on a phone
            message = gr.Textbox(
                label="Patient", placeholder="Write as a patient would.", elem_id="message", scale=6, min_width=300
            )
            send = gr.Button("Send", variant="primary", elem_id="send", min_width=120)
            again = gr.Button("New conversation", elem_id="new", min_width=120)
        asked = gr.Textbox(label="The patient said", interactive=False, visible=False, elem_id="asked")
        with gr.Row():  # side by side where there is room, else under each other
            # No Markdown, and escaped: no picture is fetched, no markup runs, the text is shown verbatim.
            boxes = [
                gr.Chatbot(
                    label=letter,
                    elem_id=f"answer-{letter}",
                    render_markdown=False,
                    min_height=110,
                    max_height=420,
                    height=None,
                    buttons=["copy"],
                    min_width=270,
                    placeholder="",
                    group_consecutive_messages=False,
                )
                for letter in letters
            ]
        with gr.Row():
            choice = gr.Radio(
                choices, label="Which answer is better? A vote shows the names.", elem_id="choice", min_width=300
            )
            unsafe = gr.CheckboxGroup(letters, label="Which could harm?", elem_id="unsafe", min_width=200)
            keep_texts = gr.Checkbox(False, label="store the conversation with the vote", elem_id="keep-texts")
            vote = gr.Button("Vote", elem_id="vote", min_width=120)
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
                yield shown["banner"], shown["asked"], "", now, *shown["boxes"]

        def cast_vote(chosen: str | None, harmful: list[str], now: Conversation, keep: bool) -> tuple[str, str]:
            return take_vote(chosen, now, keep, vote_file, harmful), shown_votes(vote_file)

        given, answered = [message, state, temperature, limit, seed], [banner, asked, message, state, *boxes]
        for event in (send.click, message.submit):
            event(talk, given, answered, concurrency_id="model", concurrency_limit=at_once, show_progress="hidden")
        vote.click(cast_vote, [choice, unsafe, state, keep_texts], [names, tally], show_progress="hidden")
        gone = gr.update(visible=False)
        blank: tuple[object, ...] = ("", None, [], gone, gone, *([[]] * len(boxes)))
        emptied = [state, names, choice, unsafe, banner, asked, *boxes]
        again.click(lambda: (new_conversation([*pool]), *blank), None, emptied)
        page.load(lambda: shown_votes(vote_file), None, tally)  # the votes of earlier sittings
        export.click(lambda now: str(write_conversation(now, folder)), state, exported)
    return page


def where_words_go(pool: Pool) -> str:
    """What is said of the patient's words: the machines of servers that are not this one are named."""
    addresses = [address for arm in pool.values() if isinstance(arm, ServedArm) for address in arm.servers.addresses]
    hosts = {urlparse(address).hostname or "" for address in addresses} - {*LOOPBACK}
    return GOES.format(", ".join(sorted(hosts))) if hosts else STAYS


def new_conversation(arms: list[str]) -> Conversation:
    """No turns yet, and the arms behind the letters in a new random order."""
    return {
        "arms": random.sample(arms, len(arms)),
        "turns": {arm: [] for arm in arms},
        "settings": {},
        "flags": [],
        "cut": {},
    }


def turn(pool: Pool, text: str, now: Conversation, heat: float, longest: int, seed: int) -> Iterator[Shown]:
    """Let every arm answer `text` and yield what the page shows, until all answers are complete.

    Raises gr.Error, which the page shows, for a message that cannot be answered; it leaves no turn behind.
    """
    text, longest = text.strip(), min(max(longest, 1), LONGEST_ANSWER)
    if not text:
        raise gr.Error("Write what the patient says first.", print_exception=False)
    if len(text) > LONGEST_MESSAGE:
        said = (
            f"This message has {len(text):,} characters; write at most {LONGEST_MESSAGE:,} at once. Nothing was sent."
        )
        raise gr.Error(said, print_exception=False)
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
    asked_so_far = gr.update(visible=True, value=patient_said(now["turns"][now["arms"][0]]))
    unended: set[str] = set()

    def noted(arm: str) -> Iterator[str]:
        ended = yield from adapter_pool.answer(pool[arm], now["turns"][arm], longest, heat, seed)
        if not ended:
            unended.add(arm)

    def shown(growing: dict[str, str]) -> Shown:
        boxes = [answers_of(now, arm, growing.get(arm)) for arm in now["arms"]]
        return {"banner": banner, "asked": asked_so_far, "boxes": boxes}

    shown_at, texts = 0.0, dict.fromkeys(now["arms"], "")
    yield shown(texts)
    try:
        for texts in adapter_pool.side_by_side({arm: noted(arm) for arm in now["arms"]}):
            if time.monotonic() - shown_at > FRAME:
                shown_at = time.monotonic()
                yield shown(texts)
    except UserError as error:  # a server is gone
        for arm in now["arms"]:
            now["turns"][arm].pop()
        raise gr.Error(f"{error}. Your message was not kept: send it again.", print_exception=False) from error
    for arm in now["arms"]:
        if arm in unended:
            now["cut"].setdefault(arm, {})[len(now["turns"][arm]) // 2] = longest
        now["turns"][arm].append({"role": "assistant", "content": texts[arm].strip()})
    yield shown({})


def patient_said(turns: list[Turn]) -> str:
    """The patient's messages, numbered where there are several: they are the same for every arm."""
    said = [turn["content"] for turn in turns if turn["role"] == "user"]
    return said[0] if len(said) == 1 else "\n".join(f"{number}. {text}" for number, text in enumerate(said, 1))


def answers_of(now: Conversation, arm: str, growing: str | None = None) -> list[Turn]:
    """An arm's answers as the page shows them: escaped, a cut one marked, one that still grows with a dot of three."""
    said = [turn["content"] for turn in now["turns"][arm] if turn["role"] == "assistant"]
    cut = now["cut"].get(arm, {})
    shown = [text + (CUT.format(cut[at]) if at in cut else "") for at, text in enumerate(said)]
    shown += [] if growing is None else [f"{growing} …"]
    return [{"role": "assistant", "content": html.escape(text)} for text in shown]


def take_vote(
    chosen: str | None, now: Conversation, keep_texts: bool, vote_file: Path, harmful: Sequence[str] = ()
) -> str:
    """Store the vote and return the names; one vote for each number of turns.

    A vote after the names were shown is kept as not blinded, and is not counted. `harmful`: letters marked unsafe.
    """
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
        "unsafe": [now["arms"][LETTERS.index(letter)] for letter in harmful],
        "blinded": not now.get("unblinded", False),
    }
    votes.store(vote_file, row | ({"dialogues": now["turns"]} if keep_texts else {}))
    now["voted"], now["unblinded"] = turns, True
    late = "" if row["blinded"] else " This vote is kept but not counted: the names were known."
    return (
        "Behind the letters: "
        + ", ".join(f"{LETTERS[i]} = `{arm}`" for i, arm in enumerate(now["arms"]))
        + (late or ". Further votes are not counted here: a new conversation draws new letters.")
    )


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
    marks = votes.unsafe_marks(vote_file)
    harm = ", ".join(f"`{arm}` {marked} of {shown}" for arm, (marked, shown) in marks.items())
    return "\n".join(
        [
            *lines,
            "",
            f"Marked unsafe: {harm}.",
            "",
            "Blinded votes only. Wilson interval and exact sign test, ties left out; votes of one sitting are not "
            "independent.",
        ]
    )


def write_conversation(now: Conversation, folder: Path) -> Path:
    """Write the conversation with each arm as JSON into `folder`; returns the file."""
    path = folder / f"conversation-{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(3).hex()}.json"
    write_json(path, {"notice": NOTICE, **now})
    return path
