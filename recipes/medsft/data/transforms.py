"""The transforms of the data pipeline: clean, de-identify, find names, group keys, token budget.

Each is a function from a batch of rows, {column: values}, to a batch of as many rows. A dropped row has no turns.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from medsft.records import Turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ColumnType = str | Sequence[str] | Sequence[dict[str, str]]  # a type of Arrow, a list of it, or a list of structs
Columns = dict[str, ColumnType]
STRINGS = ("string",)
TURNS = ({"role": "string", "content": "string"},)
HERE = "data/transforms.py"


@dataclass(frozen=True)
class Transform:
    """A function over batches, the columns that it makes, and the rooms and modules that its outcome depends on."""

    name: str
    function: Callable[..., dict[str, list[object]]]
    columns: Columns
    code: tuple[str, ...]


class TurnsBatch(TypedDict):
    turns: list[list[Turn]]


class CleanedBatch(TurnsBatch):
    language: list[str]


def empty(columns: Columns) -> dict[str, list[object]]:
    return {name: [] for name in columns}


def clean_batch(batch: TurnsBatch, skip: list[str]) -> dict[str, list[object]]:
    """`dropped` is the reason, or '' where the row is kept; `fired` names the rules that changed it.

    Rules that know English only are not run on rows in another language.
    """
    from medsft.data.rules.cleaning import clean
    from medsft.data.rules.courtesy import COURTESY_RULES
    from medsft.data.rules.language import ENGLISH, language_of, script_of, whole_text

    out = empty(CLEAN.columns)
    for turns in batch["turns"]:
        text = whole_text(turns)
        script = script_of(text)
        language = language_of(text, script)
        kept, names = clean(turns, skip if language in ENGLISH else [*skip, *COURTESY_RULES])
        out["turns"].append(kept or [])
        out["dropped"].append("" if kept else names[0])
        out["fired"].append(names if kept else [])
        out["language"].append(language)
        out["script"].append(script)
    return out


def deidentify_batch(batch: CleanedBatch, skip: list[str], level: str = "standard") -> dict[str, list[object]]:
    """`redacted` holds the kind of each placeholder that was put in."""
    from medsft.data.rules.deidentification import NAME_RULES, deidentify_turns
    from medsft.data.rules.language import ENGLISH

    out = empty(DEIDENTIFY.columns)
    for turns, language in zip(batch["turns"], batch["language"], strict=True):
        left_out = skip if language in ENGLISH else [*skip, *NAME_RULES]
        kept, counts, fired = deidentify_turns(turns, left_out, level) if turns else ([], Counter(), [])
        out["turns"].append(kept)
        out["redacted"].append(list(counts.elements()))
        out["fired"].append(fired)
        out["dropped"].append("signature_only" if turns and not kept else "")
    return out


def names_batch(batch: TurnsBatch, model: str) -> dict[str, list[object]]:
    """Full names found by Presidio; `redacted` holds the placeholders of this transform alone."""
    from medsft.data.rules.presidio import redact

    found = redact([turn["content"] for turns in batch["turns"] for turn in turns], model)
    out = empty(FIND_NAMES.columns)
    for turns in batch["turns"]:
        texts = [next(found) for _ in turns]
        out["turns"].append([{**turn, "content": text} for turn, (text, _) in zip(turns, texts, strict=True)])
        out["redacted"].append([kind for _, counts in texts for kind in counts.elements()])
    return out


def keys_batch(batch: TurnsBatch) -> dict[str, list[object]]:
    """The GroupKeys of each row, all of them empty for a dropped one."""
    from medsft.data.groups.group_keys import GroupKeys, group_keys

    dropped: GroupKeys = {"digest": "", "answers": [], "telling": 0, "question": "", "opening": "", "sketch": b""}
    out = empty(GROUP_KEYS.columns)
    for turns in batch["turns"]:
        for name, value in (group_keys(turns) if turns else dropped).items():
            out[name].append(value)
    return out


def fit_batch(
    batch: TurnsBatch, tokenizer: "PreTrainedTokenizerBase", template: str, max_length: int, system_turns: str
) -> dict[str, list[object]]:
    """Messages within the token budget; none, and 0 tokens, where the row cannot be made to fit."""
    from medsft.tokenization.truncation import fit

    out = empty(FIT.columns)
    for turns in batch["turns"]:
        fitted = fit(tokenizer, template, turns, max_length, system_turns) if turns else None
        out["messages"].append(fitted.messages if fitted else [])
        out["prompt_tokens"].append(fitted.prompt_tokens if fitted else 0)
        out["answer_tokens"].append(fitted.answer_tokens if fitted else 0)
        out["shortened"].append(fitted.shortened if fitted else False)
        out["broken"].append(fitted.broken if fitted else False)
    return out


RULES = ("data/reading", "data/rules", HERE)
CLEAN = Transform(
    "clean",
    clean_batch,
    {"turns": TURNS, "dropped": "string", "fired": STRINGS, "language": "string", "script": "string"},
    RULES,
)
DEIDENTIFY = Transform(
    "deidentify",
    deidentify_batch,
    {"turns": TURNS, "redacted": STRINGS, "fired": STRINGS, "dropped": "string"},
    RULES,
)
FIND_NAMES = Transform("names", names_batch, {"turns": TURNS, "redacted": STRINGS}, RULES)
GROUP_KEYS = Transform(
    "keys",
    keys_batch,
    {
        "digest": "string",
        "answers": STRINGS,
        "telling": "int32",
        "question": "string",
        "opening": "string",
        "sketch": "binary",
    },
    ("data/groups", HERE),
)
FIT = Transform(
    "tokens",
    fit_batch,
    {"messages": TURNS, "prompt_tokens": "int32", "answer_tokens": "int32", "shortened": "bool", "broken": "bool"},
    ("tokenization", HERE),
)
