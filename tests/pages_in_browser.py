"""The pages of chat.py served on a free port, and a real browser to open them, for the tests of either page."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conftest import RECIPES, ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
NO_BROWSER = "THE PAGE WAS NOT TESTED: no Chromium found (apt-get install chromium)"


def serve(study: Path, *words: str, **environment: str) -> tuple[subprocess.Popen[str], str]:
    """Start chat.py on a free port; the process and the page's address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, str(RECIPES / "chat.py"), "--study_dir", str(study), "--port", port, *words]
    variables = {**os.environ, "NO_PROXY": "*", **environment}
    process = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"open (http\S+)", line):
            return process, found[1]
    raise AssertionError(f"the page ended with {process.wait()}")


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    if CHROMIUM is None:
        pytest.skip(NO_BROWSER)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()
