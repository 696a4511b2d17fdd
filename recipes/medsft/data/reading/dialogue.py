"""Dialogues: turns that alternate, from the patient's first message to the doctor's last answer; before them the
system turn, if the row has one.

Where the doctor speaks first, a turn of the patient with the stage direction BEGINS stands before the doctor's opening
question. Many chat templates (Mistral's, Gemma's) refuse a conversation that the assistant opens, and without its
question a patient's "Yes." means nothing.
"""

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from medsft.data.reading.row_fields import INVISIBLE, BadRow
from medsft.data.reading.row_schemas import RowSchema, read_turns
from medsft.data.reading.statements import read_statements
from medsft.records import Turn

if TYPE_CHECKING:
    from medsft.data.reading.sources import Part

SPEAKERS = ("user", "assistant")
BEGINS = "(The consultation begins.)"
KEPT_TEXT = 20_000  # characters of a rejected row that are kept to look at


@dataclass
class Dialogue:
    """One row. The roles of `turns` are user and assistant in alternation; the first is user, the last assistant.

    A system turn may stand before them.
    """

    id: str
    source: str
    turns: list[Turn]
    official: str = ""  # 'test' or 'dev' where the source's own split says so
    repairs: list[str] = field(default_factory=list)
    statements: str = ""  # JSON of its data.reading.statements, '' where it has none


@dataclass(frozen=True)
class Rejected:
    """A row that cannot be used, why, and its content as JSON."""

    file: str
    row: int
    field: str
    reason: str
    source: str = ""
    text: str = ""


def read_row(row: object, number: int, part: "Part", schema: RowSchema) -> Dialogue | Rejected:
    """One raw row of a part as a Dialogue, or as Rejected with the first thing that is wrong with it."""
    file = part.path.name if part.path else part.name
    try:
        turns, repairs = arrange(read_turns(row, schema))
        statements = read_statements(row) if isinstance(row, dict) else []
    except BadRow as bad:
        return Rejected(file, number, bad.field, bad.reason, part.source, content_of(row))
    if not turns:
        return Rejected(file, number, "", "no_exchange", part.source, content_of(row))
    official = part.split if part.split != "train" else ""
    said = json.dumps(statements, ensure_ascii=False) if statements else ""
    return Dialogue(f"{part.label}:{number}", part.source, turns, official, repairs, said)


def content_of(row: object) -> str:
    """A raw row as JSON that can be written as UTF-8, shortened to KEPT_TEXT characters."""
    text = row if isinstance(row, str) else json.dumps(row, ensure_ascii=False, default=str, skipkeys=True)
    return text[:KEPT_TEXT].encode("utf-8", "backslashreplace").decode()


def arrange(turns: list[Turn]) -> tuple[list[Turn], list[str]]:
    """Alternating turns from the patient to the doctor, and the repairs made. [] where no patient is answered.

    System messages before the conversation become one system turn; later ones, which most chat templates refuse, and
    tool calls are left out. Consecutive turns of one role are merged, a trailing turn of the patient goes, and a
    leading one of the doctor comes after BEGINS.
    """
    begin = next((number for number, turn in enumerate(turns) if turn["role"] in SPEAKERS), len(turns))
    system = system_turn(turns[:begin])
    spoken = [turn for turn in turns if turn["role"] in SPEAKERS and turn["content"] != BEGINS]
    left_out = {turn["role"] for turn in turns[:begin]} - {"system"} | {turn["role"] for turn in turns[begin:]}
    repairs = [f"left_out_{role}" for role in sorted(left_out - {*SPEAKERS})]
    merged: list[Turn] = []
    for turn in spoken:
        if merged and merged[-1]["role"] == turn["role"]:
            merged[-1] = {**turn, "content": f"{merged[-1]['content']}\n{turn['content']}"}
        else:
            merged.append(turn)
    if len(merged) < len(spoken):
        repairs.append("merged_turns")
    if merged and merged[-1]["role"] == "user":
        merged.pop()
        repairs.append("trailing_patient_turn")
    if len(merged) < 2:
        return [], repairs
    if merged[0]["role"] == "user":
        return [*system, *merged], repairs
    if turns[begin]["content"] != BEGINS:
        repairs.append("doctor_opened")
    return [*system, {"role": "user", "content": BEGINS}, *merged], repairs


def system_turn(turns: list[Turn]) -> list[Turn]:
    """The system messages among these turns as one, in a list; [] where none of them says anything."""
    texts = [turn["content"] for turn in turns if turn["role"] == "system" and INVISIBLE.sub("", turn["content"])]
    return [{"role": "system", "content": "\n".join(texts)}] if texts else []
