"""Names of consultation sites as the crawled corpora spell them."""

import re

PLATFORM = re.compile(
    r"\b(?:health\s?care\s?magic|icliniq|chat\s?doctor|health\s?tap|questiondoctors?|mediask online|healthquery\s?24"
    r"|askdocnow)(?:\s?\.\s?com(?!(?-i:[a-z]))|(?!\w))",
    re.IGNORECASE,
)
