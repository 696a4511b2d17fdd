"""MedDialog's text dumps."""

from pathlib import Path

from conftest import read_all
from corpus import turns
from medsft.data.reading.meddialog_dump import dump_rows

DUMP = """id=1
https://www.example.org/1
Description
Doctor wrote id=7
Dialogue
Patient:
My ear hurts.
Doctor:
Since when?
Patient: May.

Doctor:
See a doctor.

id=2
Description
x
Dialogue
Patient:
My ear hurts.

Doctor:
Since when?
"""


def test_the_original_text_dump_keeps_dialogues_whole(tmp_path: Path) -> None:
    (tmp_path / "dump").write_text(DUMP)
    assert [dialogue.turns for dialogue in read_all(tmp_path / "dump")[0]] == [
        turns("My ear hurts.", "Since when?", "May.", "See a doctor."),
        turns("My ear hurts.", "Since when?"),
    ]


def test_records_keep_their_lines_and_text_before_the_first_is_left_out() -> None:
    first, second = dump_rows(["a title\n", *DUMP.splitlines(keepends=True)])
    assert first["description"] == "Doctor wrote id=7\n"
    assert [line.split(":")[0] for line in first["utterances"]] == ["patient", "doctor", "patient", "doctor"]
    assert second == {"description": "x\n", "utterances": ["patient: My ear hurts.\n\n", "doctor: Since when?\n"]}


def test_a_heading_within_an_answer_is_a_word_of_it() -> None:
    lines = ["id=1\n", "Description\n", "rash\n", "Dialogue\n", "Patient:\n", "A rash.\n", "Doctor:\n", "Two things.\n"]
    (record,) = dump_rows([*lines, "Description\n", "This is eczema.\n"])
    assert record["utterances"][1] == "doctor: Two things.\nDescription\nThis is eczema.\n"
