"""Dialogues: turns that alternate, from the patient to the doctor."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus import turns
from medsft.data.reading.dialogue import BEGINS, Dialogue, Rejected, arrange, content_of, read_row
from medsft.data.reading.row_schemas import MEDDIALOG
from medsft.data.reading.sources import Part
from medsft.records import Turn
from medsft.tokenization.system_turns import parted

TURN = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system"]), "content": st.text("ab", min_size=1, max_size=3)}
)


@given(st.lists(TURN, max_size=12))
def test_arranged_turns_alternate_from_patient_to_doctor(given_turns: list[Turn]) -> None:
    before = [dict(turn) for turn in given_turns]
    arranged, _ = arrange(given_turns)
    assert given_turns == before, "the turns given are left as they are"
    spoken = parted(arranged)[1]
    assert [turn["role"] for turn in spoken] == ["user", "assistant"] * (len(spoken) // 2)
    assert arrange(arranged) == (arranged, [])
    if arranged:  # no word of the doctor is lost
        said = [line for turn in given_turns if turn["role"] == "assistant" for line in turn["content"].split("\n")]
        kept = [line for turn in arranged if turn["role"] == "assistant" for line in turn["content"].split("\n")]
        assert kept == said


def said(text: str) -> Turn:
    return {"role": "system", "content": text}


SYSTEM = said("Be kind.")
OPENED = [{"role": "user", "content": BEGINS}, *turns("", "Hello", "Hi", "Yes?")[1:]]


@pytest.mark.parametrize(
    ("given_turns", "repairs", "left"),
    [
        (turns("", "Hello", "Hi", "Yes?")[1:], ["doctor_opened"], OPENED),
        (turns("Hi", "Yes?", "Thanks"), ["trailing_patient_turn"], turns("Hi", "Yes?")),
        ([*turns("Hi"), *turns("Doctor", "Yes?")], ["merged_turns"], turns("Hi\nDoctor", "Yes?")),
        ([SYSTEM, *turns("Hi", "Yes?")], [], [SYSTEM, *turns("Hi", "Yes?")]),
        ([SYSTEM, SYSTEM, *turns("Hi", "Yes?")], [], [said("Be kind.\nBe kind."), *turns("Hi", "Yes?")]),
        ([SYSTEM, *turns("", "Hello", "Hi", "Yes?")[1:]], ["doctor_opened"], [SYSTEM, *OPENED]),
        ([*turns("Hi"), SYSTEM, *turns("", "Yes?")[1:]], ["left_out_system"], turns("Hi", "Yes?")),
        ([said(" "), *turns("Hi", "Yes?")], [], turns("Hi", "Yes?")),
        ([SYSTEM, *turns("Hi")], ["trailing_patient_turn"], []),
        (turns("", "Hello", "Hi")[1:], ["trailing_patient_turn"], []),
        ([*OPENED[:1], *turns("Hi", "Yes?")], [], turns("Hi", "Yes?")),
    ],
)
def test_repairs_are_counted(given_turns: list[Turn], repairs: list[str], left: list[Turn]) -> None:
    assert arrange(given_turns) == (left, repairs)


@pytest.mark.parametrize("name", ["mistral_instruct", "smollm2", "qwen3", "chatml", "plain"])
def test_a_conversation_that_the_doctor_opened_renders_in_every_template(name: str) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    from medsft.tokenization.chat_template import FOLDER, inference_template

    template = inference_template((FOLDER / f"{name}.jinja").read_text(encoding="utf-8"))
    ((text,), _) = render_jinja_template([OPENED], chat_template=template, bos_token="<s>", eos_token="</s>")
    assert text.index(BEGINS) < text.index("Hello") < text.index("Hi")


def test_a_row_becomes_a_dialogue_or_is_rejected_with_what_it_holds() -> None:
    part = Part("mine.csv", "mine", "clinic", "test", Path("folder/mine.csv"))
    row = {"patient_message": "My ear hurts.", "doctor_response": "Since when?"}
    assert read_row(row, 7, part, MEDDIALOG) == Dialogue(
        "mine:7", "clinic", turns("My ear hurts.", "Since when?"), "test"
    )
    bad = read_row({**row, "doctor_response": None}, 8, part._replace(split="train"), MEDDIALOG)
    text = '{"patient_message": "My ear hurts.", "doctor_response": null}'
    assert bad == Rejected("mine.csv", 8, "doctor_response", "null", "clinic", text)
    assert content_of("\udcff" + "x" * 30_000) == "\\udcff" + "x" * 19_999
