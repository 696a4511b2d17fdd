"""Rows of the training split in the terminal as the model reads them, with the tokens that carry loss highlighted, and
dropped rows with their reasons."""

import json
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING

from medsft.arguments import DataArguments
from medsft.records import Json

if TYPE_CHECKING:
    from rich.console import Console

LOSS, PROMPT, SPECIAL = "bold green", "dim", "reverse"


def print_preview(args: DataArguments, console: "Console | None" = None) -> None:
    """Print `args.preview` rows of the prepared training split, and as many dropped ones, of each reason in turn.

    Tokens that carry loss are green, all others dim, special tokens (beginning of sequence, end of turn) reversed. A
    terminal without colours shows the tokens that carry loss between « and ».
    """
    from rich.console import Console
    from rich.text import Text

    from medsft.data.split_files import load_split
    from medsft.models.loading import load_tokenizer
    from medsft.tokenization.chat_template import render, training_template

    console = console or Console()
    tokenizer = load_tokenizer(args.model_name_or_path)
    template = training_template(tokenizer, args.chat_template_path)
    special = set(tokenizer.all_special_ids)
    train = load_split(args.study_dir, "train")
    legend = Text.assemble(("carries loss", LOSS), "  ", ("prompt", PROMPT), "  ", ("special token", SPECIAL))
    console.print(legend if console.color_system else "«carries loss»  prompt")
    for row in train.select(range(min(args.preview, len(train)))):
        rendered = render(tokenizer, row["messages"], template)
        title = f"{row['id']}  {sum(rendered.loss_mask)} of {len(rendered.input_ids)} tokens carry loss"
        console.rule(Text(title))
        text = Text()  # prints markup and control codes of a dialogue as text
        pairs = zip(rendered.input_ids, rendered.loss_mask, strict=True)
        for marked, tokens in groupby(pairs, key=lambda pair: pair[1]):
            ids = [token for token, _ in tokens]
            text.append("«" if marked and console.color_system is None else "")
            for is_special, part in groupby(ids, key=special.__contains__):
                style = LOSS if marked else PROMPT
                text.append(str(tokenizer.decode(list(part))), f"{SPECIAL} {style}" if is_special else style)
            text.append("»" if marked and console.color_system is None else "")
        console.print(text)
    for dropped in dropped_of_each_reason(Path(args.study_dir) / "data" / "dropped.jsonl", args.preview):
        console.rule(Text(f"dropped: {dropped['reason']}  {dropped['source']}, row {dropped['row']}"))
        console.print(Text(dropped["text"], PROMPT))


def dropped_of_each_reason(path: Path, count: int) -> list[Json]:
    """At most `count` rows of dropped.jsonl: the first of each reason, then the second of each, and so on."""
    by_reason: dict[str, list[Json]] = {}
    with path.open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            rows = by_reason.setdefault(row["reason"], [])
            if len(rows) < count:
                rows.append(row)
    rounds = (rows[number] for number in range(count) for rows in by_reason.values() if number < len(rows))
    return list(islice(rounds, count))
