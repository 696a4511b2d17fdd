"""Versions and fingerprints of the code that a record names."""

import platform
from pathlib import Path

import pytest

from medsft import versions


def test_absent_packages_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "PACKAGES", ["torch", "no-such-package"])
    found = versions.versions()
    assert found["python"] == platform.python_version()
    assert set(found) == {"python", "torch"}


def test_the_fingerprint_of_code_follows_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "a.py").write_text("one")
    monkeypatch.setattr(versions, "__file__", str(tmp_path / "versions.py"))
    before = versions.code_fingerprint.__wrapped__("room")
    (tmp_path / "room" / "a.pyc").write_text("compiled")
    assert versions.code_fingerprint.__wrapped__("room") == before
    (tmp_path / "room" / "b.py").write_text("two")
    both = versions.code_fingerprint.__wrapped__("room")
    assert both != before
    assert versions.code_fingerprint.__wrapped__("room/b.py") not in (before, both)
