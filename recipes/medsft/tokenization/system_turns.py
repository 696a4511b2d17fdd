"""System turns, the instructions before a conversation: kept, put into the patient's first message, or dropped."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict, cast

from medsft.errors import UserError
from medsft.records import DataReport, Turn
from medsft.tokenization.chat_template import PLAIN, takes_system

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

AUTO, KEEP, MERGE, DROP = "auto", "keep", "merge", "drop"
CHOICES = (AUTO, KEEP, MERGE, DROP)


class SystemTurns(TypedDict):
    """In data_report.json: `rows` that were read with a system turn, and what was done with it: keep, merge or drop.

    `text` is the one of more than half of the training rows, '' where there is no such; with it the chat page asks.
    """

    rows: int
    how: str
    text: str


NO_SYSTEM: SystemTurns = {"rows": 0, "how": DROP, "text": ""}


def of_report(report: DataReport | None) -> SystemTurns:
    """The system turns of a study's rows; none without a report, or in one from before there were any."""
    return cast(SystemTurns, report.get("system_turns", NO_SYSTEM)) if report else NO_SYSTEM


def choose(asked: str, tokenizer: "PreTrainedTokenizerBase", template: str, model: str) -> str:
    """What `asked`, one of CHOICES, comes to with a training template: 'auto' keeps what the template prints.

    Raises UserError for 'keep' where the template of `model` takes no system turn: it would be served without one.
    """
    if asked == AUTO:
        return KEEP if takes_system(tokenizer, template) else MERGE
    if asked == KEEP and not takes_system(tokenizer, template):
        raise UserError(
            f"system_turns keep: the chat template of '{model}' takes no system turn; use --system_turns merge, which "
            f"puts its text before the patient's first message, or another template: --chat_template_path {PLAIN}"
        )
    return asked


def parted(turns: Sequence[Turn]) -> tuple[str, list[Turn]]:
    """The text of the system turn that a dialogue begins with, '' where there is none, and the turns after it."""
    if turns and turns[0]["role"] == "system":
        return turns[0]["content"], [*turns[1:]]
    return "", [*turns]


def placed(system: str, spoken: Sequence[Turn], how: str) -> list[Turn]:
    """The turns with the system text as `how` says; as they are where there is none."""
    if not system or how == DROP:
        return [*spoken]
    if how == KEEP:
        return [{"role": "system", "content": system}, *spoken]
    first, *rest = spoken
    return [{**first, "content": f"{system}\n\n{first['content']}"}, *rest]
