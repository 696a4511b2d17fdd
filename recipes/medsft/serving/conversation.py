"""A conversation with arms behind letters: its state, the vote on it, and its file."""

import os
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NotRequired, TypedDict

import gradio as gr

from medsft.evaluation.review import votes
from medsft.files import write_json
from medsft.records import Turn

NOTICE = (
    "**Not medical advice.** These are language models in a study; their answers may be wrong or dangerous, and no "
    "clinician has checked them. In an emergency call your local emergency number."
)
LETTERS = "ABCDEFGH"


class Settings(TypedDict, total=False):
    """How the last answers were generated; empty before the first ones."""

    temperature: float
    max_new_tokens: int
    seed: int


class Conversation(TypedDict):
    """`arms` in the order of the letters, `turns` of each, the patient's red `flags`, turns when last `voted`.

    `cut`: by arm, at how many tokens which of its answers (counted from 0) ran into the limit. A vote shows the names:
    from then on the conversation is `unblinded`. `busy`: the arms answer; `ended`: another one has begun.
    """

    arms: list[str]
    turns: dict[str, list[Turn]]
    settings: Settings
    flags: list[str]
    cut: dict[str, dict[int, int]]
    busy: NotRequired[bool]
    ended: NotRequired[bool]
    voted: NotRequired[int]
    unblinded: NotRequired[bool]


def new_conversation(arms: list[str]) -> Conversation:
    """No turns yet, and the arms behind the letters in a new random order."""
    return {
        "arms": random.sample(arms, len(arms)),
        "turns": {arm: [] for arm in arms},
        "settings": {},
        "flags": [],
        "cut": {},
    }


def take_vote(
    chosen: str | None,
    now: Conversation,
    keep_texts: bool,
    vote_file: Path,
    harmful: Sequence[str] = (),
    weights: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Store the vote and return the names; one vote for each number of turns.

    A vote after the names were shown is kept as not blinded, and is not counted. `harmful`: letters marked unsafe.
    """
    said = now["turns"][now["arms"][0]]
    turns = len(said) // 2
    if now.get("busy") or (said and said[-1]["role"] == "user"):
        raise gr.Error("Wait until all answers are complete.", print_exception=False)
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
        "weights": {arm: weights[arm] for arm in now["arms"] if arm in weights},
    }
    votes.store(vote_file, row | ({"dialogues": now["turns"]} if keep_texts else {}))
    now["voted"], now["unblinded"] = turns, True
    late = "" if row["blinded"] else " This vote is kept but not counted: the names were known."
    return (
        "Behind the letters: "
        + ", ".join(f"{LETTERS[i]} = `{arm}`" for i, arm in enumerate(now["arms"]))
        + (late or ". Further votes are not counted here: a new conversation draws new letters.")
    )


def shown_votes(vote_file: Path, weights: Mapping[str, str] = MappingProxyType({})) -> str:
    """The votes so far on these weights as a Markdown table."""
    rows = votes.table(vote_file, weights)
    older = len(votes.blinded(vote_file)) - len(votes.blinded(vote_file, weights))
    gone = f" {older} votes on arms as they were before they were trained again are not counted." if older else ""
    if not rows:
        return f"No votes yet.{gone}"
    lines = ["| arm | against | won | lost | ties | share won [95 %] | p |", "|---|---|--:|--:|--:|---|--:|"]
    for row in rows:
        share = "–" if row["share"] is None else f"{row['share']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
        counts = f"{row['wins']} | {row['losses']} | {row['ties']}"
        lines.append(f"| `{row['arm']}` | `{row['other']}` | {counts} | {share} | {row['p']:.3f} |")
    marks = votes.unsafe_marks(vote_file, weights)
    harm = ", ".join(f"`{arm}` {marked} of {shown}" for arm, (marked, shown) in marks.items())
    return "\n".join(
        [
            *lines,
            "",
            f"Marked unsafe: {harm}.",
            "",
            "Blinded votes only. Wilson interval and exact sign test, ties left out; votes of one sitting are not "
            f"independent.{gone}",
        ]
    )


def write_conversation(now: Conversation, folder: Path) -> Path:
    """Write the conversation with each arm as JSON into `folder`; returns the file."""
    path = folder / f"conversation-{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(3).hex()}.json"
    write_json(path, {"notice": NOTICE, **now})
    return path
