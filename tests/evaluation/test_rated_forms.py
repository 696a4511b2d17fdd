"""Whose forms are counted: of the page, of spreadsheets, of both under one name."""

from pathlib import Path

import pytest

from medsft.errors import UserError
from medsft.evaluation.review import rated_forms


def test_sheets_join_the_forms_of_the_page_and_their_copies_are_found_again(tmp_path: Path) -> None:
    folder, sheet = tmp_path / "review", tmp_path / "Bo.csv"
    folder.mkdir()
    (folder / "lora_by_Ada.csv").write_text("hers")
    (folder / "lora_seed1_by_Eve.csv").write_text("of another arm")
    sheet.write_text("his")
    forms = rated_forms.with_sheets(folder, "lora", [str(sheet)])
    assert {name: path.read_text() for name, path in forms.items()} == {"Ada": "hers", "Bo": "his"}
    rated_forms.keep(folder, "lora", forms)
    sheet.write_text("his, with one more pair")
    again = rated_forms.with_sheets(folder, "lora", [str(sheet)])  # it replaces the copy
    assert again["Bo"] == sheet and [*again] == ["Ada", "Bo"]
    sheet.unlink()
    assert rated_forms.known(folder, "lora")["Bo"].read_text() == "his"


def test_a_rater_with_two_forms_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lora_by_Ada.csv").write_text("hers")
    (tmp_path / "sheets").mkdir()
    for name in ("Ada.csv", "lora_by_Ada.csv"):
        (tmp_path / "sheets" / name).write_text("another")
    with pytest.raises(UserError, match="Ada has also rated on the page"):
        rated_forms.with_sheets(tmp_path, "lora", [str(tmp_path / "sheets" / "Ada.csv")])
    copied = rated_forms.with_sheets(tmp_path, "lora", [str(tmp_path / "sheets" / "lora_by_Ada.csv")])
    assert copied == {"Ada": tmp_path / "lora_by_Ada.csv"}
    with pytest.raises(UserError, match="two have one name"):
        rated_forms.with_sheets(tmp_path, "lora", ["a/Ada.csv", "b/Ada.csv"])
    (tmp_path / "lora_returned_Ada.csv").write_text("another")
    with pytest.raises(UserError, match="rename one of them"):
        rated_forms.known(tmp_path, "lora")
