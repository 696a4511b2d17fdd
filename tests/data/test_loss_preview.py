"""The preview of rows in the terminal."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from medsft.arguments import DataArguments
from medsft.data.loss_preview import print_preview
from medsft.data.prepare import prepare
from medsft.data.split_files import load_split


@pytest.mark.slow
@pytest.mark.parametrize("colour", [True, False])
def test_the_preview_tells_loss_from_prompt(tmp_path: Path, colour: bool) -> None:
    args = DataArguments(study_dir=str(tmp_path), preview=2)
    prepare(args)
    out = io.StringIO()
    print_preview(
        args, Console(file=out, force_terminal=colour, color_system="standard" if colour else None, width=200)
    )
    text = out.getvalue()
    assert text.count("tokens carry loss") == 2
    row = load_split(str(tmp_path), "train")[0]
    answer = row["messages"][1]["content"].splitlines()[0][:40]
    if colour:
        assert "\x1b[1;32m" + answer in text and "\x1b[1;7;32m<|im_end|>" in text
    else:
        assert f"«{answer}" in text and "<|im_end|>»" in " ".join(text.split())
