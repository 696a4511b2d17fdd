"""A speaker's words as words: what a tokenizer or a template would take for a control token is broken by a space.

'</s>', '[INST]' and '<|im_end|>' are single tokens wherever they stand in a rendered dialogue, so a patient who types
them would end his turn or open the doctor's. No tokenizer option prevents it: '[INST]' of Mistral-7B-Instruct-v0.2 is
plain text in its template too. After the first character a space makes ordinary text of each.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from medsft.records import Turn

# Of the families in use, whatever this tokenizer knows: a prepared split may be trained on with another one.
FAMILIES = (
    r"<(?=\|[^\s<>|]{1,40}\|>|/?s>|/?(?:unk|pad|bos|eos|mask)>|</?SYS>>|/?[a-z]+(?:_[a-z]+)+>|reponame>|filename>)"
    r"|\[(?=/?[A-Z_]*(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\])"
)


def as_text(tokenizer: Any, messages: Sequence[Turn] | Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The messages with every control token in their words broken; what holds none is returned as it is."""
    pattern = control_tokens(tokenizer)
    return [
        {"role": message["role"], "content": pattern.sub(lambda match: f"{match[0]} ", message["content"])}
        for message in messages
    ]


@lru_cache(maxsize=8)
def control_tokens(tokenizer: Any) -> re.Pattern[str]:
    """Matches the first character of every control token: the families' and this tokenizer's own.

    Added tokens that are ordinary words, blanks or a single character are no control tokens, unless declared special.
    """
    added = sorted(
        token.content
        for token in tokenizer.added_tokens_decoder.values()
        if len(token.content.strip()) > 1 and (token.special or not re.fullmatch(r"[\w\s]+", token.content))
    )
    own = (f"{re.escape(token[0])}(?={re.escape(token[1:])})" for token in added)
    return re.compile("|".join([FAMILIES, *own]), re.IGNORECASE)
