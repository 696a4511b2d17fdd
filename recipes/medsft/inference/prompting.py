"""Untrained arms that are asked better: with instructions (`baseline_prompted`), and examples too (`baseline_fewshot`).

What a good prompt gives costs no training, so every trained arm is compared with it.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from medsft.arguments import GenerateArguments
from medsft.errors import UserError
from medsft.records import SplitRow, Turn
from medsft.tokenization.chat_template import prompt_ids, training_template
from medsft.tokenization.system_turns import AUTO, choose, parted, placed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROMPTED, FEW_SHOT = "baseline_prompted", "baseline_fewshot"
BY_SEED, NEAREST = "seed", "nearest"


def is_prompted(arm: str) -> bool:
    """Whether an arm is asked with instructions: by its name, so that `baseline_prompted_2` may have others."""
    return arm.startswith((PROMPTED, FEW_SHOT))


def own_options(args: GenerateArguments) -> GenerateArguments:
    """The options of this arm: those of prompts count for prompted arms only. Raises UserError for one out of range."""
    few_shot = args.arm.startswith(FEW_SHOT)
    if args.examples_by not in (BY_SEED, NEAREST):
        raise UserError(f"examples_by '{args.examples_by}': use {BY_SEED} or {NEAREST}")
    if few_shot and args.examples < 1:
        raise UserError(f"examples {args.examples}: give a whole number from 1")
    if args.arm.startswith(PROMPTED) and not args.system_prompt.strip():
        raise UserError(f"arm {args.arm}: give its instructions with --system_prompt, as in configs/demo/generate.yaml")
    system = args.system_prompt if is_prompted(args.arm) else ""
    examples, by = (args.examples, args.examples_by) if few_shot else (0, BY_SEED)
    return replace(args, system_prompt=system, examples=examples, examples_by=by)


def drawn(count: int, questions: int, examples: int, seed: int = 0) -> list[list[int]]:
    """The same `examples` of `count` training rows for every question, drawn by seed."""
    return [random.Random(seed).sample(range(count), min(examples, count))] * questions


def prompted(
    rows: Sequence[SplitRow],
    args: GenerateArguments,
    shown: Sequence[Sequence[Sequence[Turn]]],
    tokenizer: "PreTrainedTokenizerBase",
    room: int,
) -> tuple[list[SplitRow], int]:
    """(the rows with instructions and examples before their messages, how many rows got fewer examples).

    `shown`: the example dialogues of each row, the nearest last. A row gets as many as leave its prompt within `room`
    tokens. Instructions are a system turn, or before the first message where the template takes none.
    """
    how = choose(AUTO, tokenizer, training_template(tokenizer), args.model_name_or_path)
    found: list[SplitRow] = []
    fewer = 0
    for row, examples in zip(rows, shown, strict=True):
        system, spoken = parted(row["messages"])
        instructions = "\n\n".join(filter(None, [args.system_prompt.strip(), system]))
        kept = [parted(example)[1] for example in examples]
        while True:
            turns = placed(instructions, [*(turn for example in kept for turn in example), *spoken], how)
            if not kept or len(prompt_ids(tokenizer, turns[:-1])) <= room:
                break
            kept = kept[1:]
        fewer += len(kept) < len(examples)
        found.append(cast(SplitRow, {**cast("Mapping[str, object]", row), "messages": turns}))
    return found, fewer
