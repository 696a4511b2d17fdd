"""What a model says to the patient, from the tokens of its answer: no control tokens, no channels, no thought."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHANNEL, MESSAGE = "<|channel|>", "<|message|>"  # OpenAI's Harmony format, of gpt-oss


def answer_text(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int]) -> str:
    """Of Harmony's channels the last message; of other models the text, without a thought that the model ended.

    One that it did not end is all there is, and kept.
    """
    channel, message = tokenizer.convert_tokens_to_ids(CHANNEL), tokenizer.convert_tokens_to_ids(MESSAGE)
    if channel != message and channel in ids and message in ids:
        ids = ids[max(at for at, token in enumerate(ids) if token == message) + 1 :]
    text = str(tokenizer.decode([*ids], skip_special_tokens=True))
    return re.sub(r"^.*?</think>\s*", "", text, count=1, flags=re.DOTALL) if "</think>" in text else text
