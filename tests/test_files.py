"""Files are whole or absent, and errors name the place."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsft.errors import UserError
from medsft.files import fingerprint, new_folder, read_json, read_jsonl, write_json, write_jsonl, write_text


def test_json_round_trip_keeps_text_as_it_is(tmp_path: Path) -> None:
    write_json(tmp_path / "a" / "x.json", {"temperature": "38.5 °C", "n": 1})
    assert read_json(tmp_path / "a" / "x.json") == {"temperature": "38.5 °C", "n": 1}
    assert "°C" in (tmp_path / "a" / "x.json").read_text(encoding="utf-8")
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["x.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with pytest.raises(RuntimeError), new_folder(target) as new:
        (new / "half").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    for text in ("first", "second"):
        with new_folder(target) as new:
            (new / "file").write_text(text)
    assert (target / "file").read_text() == "second"
    assert list(tmp_path.iterdir()) == [target]


def test_broken_files_are_named_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": ')
    with pytest.raises(UserError, match=r"x\.json: not valid JSON"):
        read_json(tmp_path / "x.json")
    with pytest.raises(UserError, match="no such file"):
        read_json(tmp_path / "absent.json")
    write_jsonl(tmp_path / "rows.jsonl", [{"a": 1}, {"a": 2}])
    assert read_jsonl(tmp_path / "rows.jsonl") == [{"a": 1}, {"a": 2}]
    with (tmp_path / "rows.jsonl").open("a") as handle:
        handle.write('{"a"')
    with pytest.raises(UserError, match=r"rows\.jsonl: line 3"):
        read_jsonl(tmp_path / "rows.jsonl")


@given(st.dictionaries(st.text(), st.integers() | st.text()))
def test_fingerprint_depends_on_values_and_not_on_their_order(values: dict[str, int | str]) -> None:
    assert fingerprint(values) == fingerprint(dict(reversed(values.items())))
    assert fingerprint(values) != fingerprint({**values, "one more": 0})
    assert len(fingerprint(values)) == 16
