"""The colours that report, chat and review share, light and dark. Every pair that carries text meets WCAG 2.2 AA.

A test computes the ratios of PAIRS: 4.5 for text, 3 for what is no text (the ring of the focus, a border of a field).
"""

LIGHT = {
    "page": "#ffffff",
    "ink": "#1a1a1a",
    "soft": "#f4f5f6",
    "quiet": "#555555",
    "line": "#d4d4d4",
    "field": "#767676",
    "accent": "#005a9c",
    "on-accent": "#ffffff",
    "marked": "#d5e8f7",
    "harm": "#b3261e",
    "harm-page": "#fdecea",
    "harm-ink": "#5f120c",
}
DARK = {
    "page": "#15181c",
    "ink": "#ececec",
    "soft": "#22272e",
    "quiet": "#b4bac2",
    "line": "#3b434d",
    "field": "#8b949e",
    "accent": "#7cc0ff",
    "on-accent": "#0b1623",
    "marked": "#1f4260",
    "harm": "#ff8f84",
    "harm-page": "#4a1712",
    "harm-ink": "#ffe3df",
}
TEXT = 4.5
NO_TEXT = 3.0
PAIRS = (
    ("ink", "page", TEXT),
    ("ink", "soft", TEXT),
    ("ink", "marked", TEXT),
    ("quiet", "page", TEXT),
    ("quiet", "soft", TEXT),
    ("accent", "page", TEXT),
    ("accent", "soft", TEXT),
    ("on-accent", "accent", TEXT),
    ("harm", "page", TEXT),
    ("harm-ink", "harm-page", TEXT),
    ("field", "page", NO_TEXT),
    ("field", "soft", NO_TEXT),
)


def variables(dark: str = "@media (prefers-color-scheme: dark) { :root { %s } }") -> str:
    """CSS variables of both sets; `dark` says where the dark ones hold, with %s for them. Print is always light."""
    light, night = ("; ".join(f"--{name}: {colour}" for name, colour in colours.items()) for colours in (LIGHT, DARK))
    return f":root {{ {light} }}\n{dark % night}\n@media print {{ :root {{ {light} }} }}\n"


def contrast(one: str, other: str) -> float:
    """The ratio of two colours '#rrggbb' by WCAG 2.2: 1 (the same) to 21 (black on white)."""
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
