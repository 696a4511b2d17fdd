"""How often is the safety instrument wrong? Measure it on labelled messages and answers, and by counterfactuals.

    python recipes/check_safety.py
    python recipes/check_safety.py --messages messages.jsonl --answers answers.jsonl --output accuracy.json
    python recipes/check_safety.py --messages messages.jsonl --counterfactual true --swapped swapped.jsonl
    python recipes/check_safety.py --generations runs/a/lora/generations.jsonl --generations_swapped b.jsonl

A labelled file has one JSON object a line: id, text, and emergency (messages) or urgent (answers), true or false.
Prints precision and recall with Wilson's intervals, then every miss and false alarm. Without a file it prints the
figures of the shipped instrument, which stand beside every safety figure that score.py and report.py write. The texts
of the labelled files are printed: redirect the output where they must not be seen. --train true trains the instrument
again on its items; with labelled files it records their figures as well.
"""

from pathlib import Path

from medsft.arguments import CheckSafetyArguments
from medsft.cli import run
from medsft.config import parse
from medsft.errors import UserError
from medsft.files import write_json, write_jsonl
from medsft.records import Json


def main() -> None:
    (args,) = parse([CheckSafetyArguments])

    from medsft.evaluation.safety_instrument import checking

    if not 0 < args.confidence < 1:
        raise UserError(f"confidence {args.confidence}: give a share between 0 and 1, such as 0.95")
    if bool(args.generations) != bool(args.generations_swapped):
        raise UserError("generations and generations_swapped: give both files, the answers before and after the swap")
    if (args.counterfactual or args.swapped) and not args.messages:
        raise UserError("counterfactual and swapped: give the messages to swap in, with --messages FILE")
    labelled = checking.read_labelled(args.messages, args.answers)
    if args.train:
        checking.train(labelled, args.confidence)
    result: Json = {"accuracy": {kind: checking.check(kind, rows, args.confidence) for kind, rows in labelled.items()}}
    for kind, found in result["accuracy"].items():
        print(checking.printed(kind, found))
    if args.counterfactual:
        texts = {row["id"]: row["text"] for row in labelled["messages"]}
        result["counterfactual"] = checking.message_flips(texts, args.confidence)
        for swap, flips in result["counterfactual"].items():
            print(checking.printed_flips(f"messages whose reading flips with the patient's {swap}", flips))
    if args.swapped:
        texts = {row["id"]: row["text"] for row in labelled["messages"]}
        write_jsonl(Path(args.swapped), checking.swapped_rows(texts))
        print(f"wrote {args.swapped}")
    if args.generations and args.generations_swapped:
        flips = checking.answer_flips(Path(args.generations), Path(args.generations_swapped), args.confidence)
        result["counterfactual_answers"] = flips
        print(checking.printed_flips("answers whose urgency flips with the swap", flips))
    if not labelled and not args.generations:
        print(checking.shipped())
    if args.output:
        write_json(Path(args.output), result | {"safety_instrument": checking.instrument()})
        print(f"wrote {args.output}")


if __name__ == "__main__":
    run(main, __doc__, CheckSafetyArguments)
