"""Control tokens that a patient or a doctor typed are broken by a space, so that they are read as ordinary text.

'</s>', '[INST]' and '<|im_end|>' are control tokens wherever they stand in a rendered dialogue, so a patient who types
them would end the turn or open the doctor's. No tokenizer option prevents it: '[INST]' of Mistral-7B-Instruct-v0.2 is
plain text in its template too. A space after the first character makes ordinary text of each.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from medsft.records import Turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Of all families in use, not of this tokenizer alone: a prepared split may be trained on with another one.
FAMILIES = (
    r"<(?=\|[^\s<>|]{1,40}\|>|/?s>|/?(?:unk|pad|bos|eos|mask)>|</?SYS>>|/?[a-z]+(?:_[a-z]+)+>|reponame>|filename>)"
    r"|\[(?=/?[A-Z_]*(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\])"
)


def as_text(tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Turn]) -> list[Turn]:
    """The messages with every control token in their content broken; the others are unchanged."""
    pattern = control_tokens(tokenizer)
    return [
        {"role": message["role"], "content": pattern.sub(lambda match: f"{match[0]} ", message["content"])}
        for message in messages
    ]


@lru_cache(maxsize=8)
def control_tokens(tokenizer: "PreTrainedTokenizerBase") -> re.Pattern[str]:
    """Matches the first character of every control token, of the families and of this tokenizer.

    Added tokens that are ordinary words, blanks or a single character count only where they are declared special.
    """
    added = sorted(
        token.content
        for token in tokenizer.added_tokens_decoder.values()
        if len(token.content.strip()) > 1 and (token.special or not re.fullmatch(r"[\w\s]+", token.content))
    )
    own = (f"{re.escape(token[0])}(?={re.escape(token[1:])})" for token in added)
    return re.compile("|".join([FAMILIES, *own]), re.IGNORECASE)
