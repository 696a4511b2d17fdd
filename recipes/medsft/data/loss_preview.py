"""Rows of the training split in the terminal as the model reads them, with the tokens that carry loss highlighted."""

from itertools import groupby
from typing import TYPE_CHECKING

from medsft.arguments import DataArguments

if TYPE_CHECKING:
    from rich.console import Console

LOSS, PROMPT, SPECIAL = "bold green", "dim", "reverse"


def print_preview(args: DataArguments, console: "Console | None" = None) -> None:
    """Print `args.preview` rows of the prepared training split.

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
