"""Dialogues in any supported form -> one clean, de-identified, leak-free split in study_dir/data/.

    python recipes/prepare_data.py                                          # the embedded dialogues, for runs/demo
    python recipes/prepare_data.py --data my.csv --study_dir runs/mine      # .jsonl, .json, .csv or .parquet
    python recipes/prepare_data.py --data OpenMed/MedDialog --study_dir runs/meddialog --model_name_or_path ORG/MODEL
    python recipes/prepare_data.py --preview 3                              # look at rows; what carries loss is green

Columns: patient_message, doctor_response and, where there were earlier turns, dialogue_context.
"""

from typing import Any

from medsft.arguments import DataArguments
from medsft.cli import parse, run


def main() -> None:
    (args,) = parse([DataArguments])

    from medsft.preparation import prepare

    report = prepare(args)
    print_report(report, args.study_dir)
    if args.preview:
        print_preview(args)


def print_report(report: dict[str, Any], study_dir: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{study_dir}/data", title_justify="left", show_header=False)
    table.add_row("rows", f"{report['rows_read']:,} read, {report['rows_kept']:,} kept")
    for key in ("dropped", "repaired", "redacted"):
        table.add_row(key, "\n".join(f"{count:,} {name}" for name, count in report[key].items()) or "none")
    copies = report["duplicates"]
    table.add_row("duplicates", f"{copies['exact']:,} exact, {copies['near']:,} near; {copies['groups']:,} groups")
    for name, part in report["splits"].items():
        tokens = report["tokens"][name]
        size = f"{part['rows']:,} rows in {part['groups']:,} groups"
        table.add_row(name, f"{size}; {tokens['total']:,} tokens, {tokens['answer']:,} of them the doctor's")
    table.add_row("shortened", f"{report['truncated']['prompt']:,} prompts to the token budget, no answer")
    Console().print(table)


def print_preview(args: DataArguments) -> None:
    """Some rows of the training split as the model reads them: tokens that carry loss in green, the others dim."""
    from itertools import groupby

    from rich.console import Console
    from rich.text import Text

    from medsft.chat_template import render, training_template
    from medsft.model import load_tokenizer
    from medsft.preparation import load_split

    tokenizer = load_tokenizer(args.model_name_or_path)
    template = training_template(tokenizer, args.chat_template_path)
    console = Console()
    train = load_split(args.study_dir, "train")
    for row in train.select(range(min(args.preview, len(train)))):
        rendered = render(tokenizer, row["messages"], template)
        console.rule(f"{row['id']}  {sum(rendered.loss_mask)} of {len(rendered.input_ids)} tokens carry loss")
        text = Text()  # takes the words as they are: no markup, no control codes
        pairs = zip(rendered.input_ids, rendered.loss_mask, strict=True)
        for marked, run_of_tokens in groupby(pairs, key=lambda pair: pair[1]):
            text.append(tokenizer.decode([token for token, _ in run_of_tokens]), "bold green" if marked else "dim")
        console.print(text)


if __name__ == "__main__":
    run(main, __doc__, DataArguments)
