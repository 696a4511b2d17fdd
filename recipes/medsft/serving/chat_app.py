"""The chat page: every arm answers side by side under a letter; the names appear after a vote."""

import html
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypedDict
from urllib.parse import urlparse

import gradio as gr

from medsft.errors import UserError
from medsft.evaluation.metrics.red_flags import red_flags
from medsft.evaluation.review import votes
from medsft.inference import adapter_pool
from medsft.inference.http_json import LOOPBACK
from medsft.inference.served_arms import ServedArm
from medsft.records import Turn
from medsft.serving.conversation import (
    LETTERS,
    NOTICE,
    Conversation,
    new_conversation,
    shown_votes,
    take_vote,
    write_conversation,
)

STAYS, GOES = "What you type stays on this machine.", "What you type is sent to {}."
BANNER = "**Red flags in this message: {}.** A doctor would want this person seen urgently. Do the answers say so?"
LONGEST_MESSAGE = 8_000  # characters; MedDialog's longest message has 2,500
LONGEST_ANSWER = 1_024  # tokens
CUT = "\n[cut at {} tokens: the answer did not end; see Settings]"
FRAME = 0.3  # seconds between two updates: each costs the page about 0.2 s, during which nothing is generated

Pool = dict[str, adapter_pool.LoadedArm | ServedArm]


class Shown(TypedDict):
    """What the page shows while the arms answer: updates of the banner and of what was asked, each letter's answers."""

    banner: dict[str, Any]
    asked: dict[str, Any]
    boxes: list[list[Turn]]


def build(
    pool: Pool,
    folder: Path,
    vote_file: Path,
    title: str = "Arms side by side",
    weights: Mapping[str, str] = MappingProxyType({}),
) -> gr.Blocks:
    """The page over loaded arms. Votes are appended to `vote_file`; exports are written into `folder`.

    `weights`: a fingerprint of each arm's training. Votes on an arm as it was before do not count.
    """
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
            # No Markdown, no formulas, and escaped: no picture is fetched, no markup runs, the text is shown verbatim.
            # No button to copy: it would copy the escaped text.
            boxes = [
                gr.Chatbot(
                    label=letter,
                    elem_id=f"answer-{letter}",
                    render_markdown=False,
                    min_height=110,
                    max_height=420,
                    height=None,
                    buttons=[],
                    latex_delimiters=[],
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
        tally = gr.Markdown(shown_votes(vote_file, weights), elem_id="tally")
        with gr.Accordion("Settings", open=False):
            temperature = gr.Slider(0, 2, 0, step=0.1, label="temperature (0: always the likeliest token)")
            limit = gr.Slider(8, LONGEST_ANSWER, 128, step=8, label="longest answer in tokens", elem_id="limit")
            seed = gr.Number(42, label="seed", precision=0, minimum=0)
            export = gr.Button("Export this conversation", elem_id="export")
            exported = gr.Textbox(label="written to", interactive=False, elem_id="exported")

        def talk(text: str, now: Conversation, heat: float, longest: int, start: int) -> Iterator[tuple[object, ...]]:
            kept: object = now  # given once: a late update must not put the old conversation in place of a new one
            for shown in turn(pool, text, now, heat, int(longest), int(start)):
                if now.get("ended"):
                    break
                yield shown["banner"], shown["asked"], "", kept, *shown["boxes"]
                kept = gr.skip()
            if now.get("ended"):  # at its end gradio shows the last update once more: let that change nothing
                yield (gr.skip(),) * (4 + len(boxes))

        def cast_vote(chosen: str | None, harmful: list[str], now: Conversation, keep: bool) -> tuple[str, str]:
            names = take_vote(chosen, now, keep, vote_file, harmful, weights)
            return names, shown_votes(vote_file, weights)

        given, answered = [message, state, temperature, limit, seed], [banner, asked, message, state, *boxes]
        limits: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": at_once, "trigger_mode": "once"}
        # one event, so that a message cannot be sent by the key while one that was sent by the button is answered
        gr.on([send.click, message.submit], talk, given, answered, show_progress="hidden", **limits)
        vote.click(cast_vote, [choice, unsafe, state, keep_texts], [names, tally], show_progress="hidden")
        gone = gr.update(visible=False)
        blank: tuple[object, ...] = ("", None, [], gone, gone, *([[]] * len(boxes)))
        emptied = [state, names, choice, unsafe, banner, asked, *boxes]

        def begin_anew(now: Conversation) -> tuple[object, ...]:
            now["ended"] = True
            time.sleep(FRAME)  # updates that are on their way arrive first
            return new_conversation([*pool]), *blank

        again.click(begin_anew, state, emptied)
        page.load(lambda: shown_votes(vote_file, weights), None, tally)  # the votes of earlier sittings
        export.click(lambda now: str(write_conversation(now, folder)), state, exported)
    return page


def where_words_go(pool: Pool) -> str:
    """What is said of the patient's words: the machines of servers that are not this one are named."""
    addresses = [address for arm in pool.values() if isinstance(arm, ServedArm) for address in arm.servers.addresses]
    hosts = {urlparse(address).hostname or "" for address in addresses} - {*LOOPBACK}
    return GOES.format(", ".join(sorted(hosts))) if hosts else STAYS


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
    if now.get("busy"):
        raise gr.Error("The arms still answer; wait until they have ended.", print_exception=False)
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
    served = sum(isinstance(pool[arm], ServedArm) for arm in now["arms"])
    growing = served in (0, len(now["arms"]))  # else it would show which letters a server answers for
    now["busy"] = True
    try:
        yield shown(texts)
        for texts in adapter_pool.side_by_side({arm: noted(arm) for arm in now["arms"]}):
            if now.get("ended"):
                return
            if growing and time.monotonic() - shown_at > FRAME:
                shown_at = time.monotonic()
                yield shown(texts)
    except UserError as error:  # a server is gone
        for arm in now["arms"]:
            now["turns"][arm].pop()
        raise gr.Error(f"{error}. Your message was not kept: send it again.", print_exception=False) from error
    finally:
        now.pop("busy", None)
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
