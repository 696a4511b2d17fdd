"""What of a rendered dialogue is learned, for the tests of chat templates."""

from typing import Any

from medsft.tokenization import chat_template


def supervised(tokenizer: Any, rendered: chat_template.Rendered) -> list[str]:
    """The runs of tokens that carry loss, as text."""
    runs: list[list[int]] = [[]]
    for token, kept in zip(*rendered, strict=True):
        if kept:
            runs[-1].append(token)
        elif runs[-1]:
            runs.append([])
    return [tokenizer.decode(run) for run in runs if run]
