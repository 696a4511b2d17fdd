"""What a server says of a refusal reaches the terminal without what it quotes."""

import io
import json
import urllib.error
from email.message import Message

import pytest

from medsft.inference.http_json import refusal


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (json.dumps({"error": {"message": "the context has 4096 tokens"}}), "the context has 4096 tokens"),
        (json.dumps({"message": "bad value 'my knee hurts' for prompt"}), "bad value ... for prompt"),
        (json.dumps({"error": "[{'type': 1, 'input': 'my knee hurts'}]"}), "[{...: 1, "),
        ("<html>my knee hurts</html>", "no reason that can be read"),
    ],
)
def test_a_reason_is_kept_and_a_quotation_is_not(body: str, said: str) -> None:
    error = urllib.error.HTTPError("http://127.0.0.1", 400, "", Message(), io.BytesIO(body.encode()))
    assert refusal(error) == said
