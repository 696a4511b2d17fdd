"""Names of consultation sites as the crawled corpora spell them."""

import re

PLATFORM = re.compile(
    r"\b(?:health\s?care\s?magic|icliniq|chat\s?doctor|health\s?tap|questiondoctors?|mediask online|healthquery\s?24"
    r"|askdocnow)(?:\s?\.\s?com(?!(?-i:[a-z]))|(?!\w))",
    re.IGNORECASE,
)

WORDS = ("health", "icliniq", "chat", "questiond", "mediask", "askdoc")  # one of them is in every name


def may_name_platform(text: str) -> bool:
    """False where no platform can be named: the search itself takes ten times as long."""
    if not text.isascii():  # some letters of other alphabets count as one of ours whatever the case
        return True
    lower = text.lower()
    return any(word in lower for word in WORDS)
