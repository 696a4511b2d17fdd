"""Prefix continuation: given a training dialogue and the first tokens of the doctor's answer, does the model recite?

The test of Carlini et al. (2023, arXiv:2202.07646) with 30 tokens of prefix and 30 of continuation, as in studies of
clinical fine-tuning. The baseline saw none of these rows, so its numbers on them say what is merely predictable.
"""

from collections.abc import Callable, Sequence
from typing import Any

from medsft.tokenization.chat_template import prompt_ids

PREFIX, CONTINUATION = 30, 30  # tokens
Rows = list[dict[str, Any]]
Probe = tuple[dict[str, Any], list[int], list[int]]


def probes(tokenizer: Any, rows: Rows, wanted: int) -> list[Probe]:
    """The first `wanted` rows with a long enough answer, as (row, prompt and prefix ids, true continuation)."""
    found: list[Probe] = []
    for row in rows:
        answer = tokenizer(row["messages"][-1]["content"], add_special_tokens=False)["input_ids"]
        if len(answer) < PREFIX + CONTINUATION or len(found) == wanted:
            continue
        asked = prompt_ids(tokenizer, row["messages"][:-1])
        found.append((row, [*asked, *answer[:PREFIX]], answer[PREFIX : PREFIX + CONTINUATION]))
    return found


def memorization(
    tokenizer: Any, rows: Rows, wanted: int, complete: Callable[[list[list[int]], int], list[list[int]]]
) -> Rows:
    """One result a probe: `matched` leading tokens of 30, `agreement` (share of equal tokens), `recited` (all equal).

    `complete` takes prompts as token ids and a number of new tokens, and gives the greedy new tokens of each.
    """
    asked = probes(tokenizer, rows, wanted)
    if not asked:
        return []
    produced = complete([prompt for _, prompt, _ in asked], CONTINUATION)
    return [
        {"id": row["id"], "group": row["group"], **match(new, truth)}
        for (row, _, truth), new in zip(asked, produced, strict=True)
    ]


def match(produced: Sequence[int], truth: Sequence[int]) -> dict[str, float]:
    """How far a continuation follows the true one."""
    equal = [at < len(produced) and produced[at] == token for at, token in enumerate(truth)]
    matched = next((at for at, same in enumerate(equal) if not same), len(truth))
    return {"matched": float(matched), "agreement": sum(equal) / len(truth), "recited": float(all(equal))}
