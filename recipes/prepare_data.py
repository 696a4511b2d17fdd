"""Dialogues in any supported format -> one clean, de-identified, leak-free split in study_dir/data/.

    python recipes/prepare_data.py                                          # the embedded dialogues, for runs/demo
    python recipes/prepare_data.py --data my.csv --study_dir runs/mine      # JSON, CSV, Parquet, Arrow; .gz, .zst
    python recipes/prepare_data.py --data faq.csv --columns patient=question,doctor=answer --study_dir runs/faq
    python recipes/prepare_data.py --data a.jsonl folder/ 'b/*.parquet' --weights 3 1 1 --study_dir runs/mixed
    python recipes/prepare_data.py --data OpenMed/MedDialog --study_dir runs/meddialog --model_name_or_path ORG/MODEL
    python recipes/prepare_data.py --data my.csv --also_test kqa.jsonl --study_dir runs/mine   # one more test set
    python recipes/prepare_data.py --preview 5                              # show rows; what carries loss is green

The format of a file is detected by its content. Rules that --skip_rules leaves out: mojibake, html, spaces,
dangling_arrow, greeting, advert, opening_formula, closing_formula, chat_doctor, boilerplate_only; email, url,
ip_address, birth_date, record_number, device_number, phone, age_over_89, address, doctor_name, civil_name, signature,
patient_name, relative, named_person, date, place, platform, sign_off; or all. Control tokens in the dialogues ('</s>',
'[INST]') are always broken into ordinary text. Dropped rows are kept in study_dir/data/dropped.jsonl with reasons.
"""

from medsft.arguments import DataArguments
from medsft.cli import run
from medsft.config import parse
from medsft.records import DataReport


def main() -> None:
    (args,) = parse([DataArguments])

    from medsft.data.prepare import prepare

    report = prepare(args)
    print_report(report, args.study_dir)
    if args.preview:
        from medsft.data.loss_preview import print_preview

        print_preview(args)


def print_report(report: DataReport, study_dir: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{study_dir}/data", title_justify="left", show_header=False)
    table.add_row("rows", f"{report['rows_read']:,} read, {report['rows_kept']:,} kept")
    for key, counts in (
        ("dropped", report["dropped"]),
        ("repaired", report["repaired"]),
        ("redacted", report["redacted"]),
    ):
        table.add_row(key, "\n".join(f"{count:,} {name}" for name, count in counts.items()) or "none")
    copies = report["duplicates"]
    table.add_row("duplicates", f"{copies['exact']:,} exact, {copies['near']:,} near; {copies['groups']:,} groups")
    if len(report["sources"]) > 1:
        lines = (f"{part['kept']:,} of {part['read']:,} from {name}" for name, part in report["sources"].items())
        table.add_row("sources", "\n".join(lines))
    if report["leaking"]:
        table.add_row(
            "leaking", f"{report['leaking']:,} held-out rows share a group with a training row (--split study)"
        )
    for name, part in report["splits"].items():
        tokens = report["tokens"][name]
        size = f"{part['rows']:,} rows in {part['groups']:,} groups"
        table.add_row(name, f"{size}; {tokens['total']:,} tokens, {tokens['answer']:,} of them the doctor's")
    for name, also in report.get("also_test", {}).items():
        why = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in also["dropped"].items()) or "none"
        table.add_row(f"also_test {name}", f"{also['rows']:,} rows in {also['groups']:,} groups; left out: {why}")
    answers = report.get("answers", {}).get("train")
    if answers and answers["times"] > answers["with_loss"]:
        times = answers["times"] / answers["with_loss"]
        table.add_row("loss", f"{times:.1f} times on each of {answers['with_loss']:,} answers of train")
    elif answers:
        table.add_row("loss", f"once on each of {answers['with_loss']:,} answers of train")
    if languages := report.get("languages"):
        table.add_row("languages", ", ".join(f"{count:,} {name}" for name, count in languages.items()))
    if left := report.get("english_rules", {}).get("rows_left_alone"):
        table.add_row("English rules", f"not run on {left:,} rows in other languages")
    if system := report.get("system_turns", {}).get("rows"):
        done = {"keep": "kept", "merge": "put before the patient's first message", "drop": "dropped"}
        table.add_row("system turns", f"{done[report['system_turns']['how']]} in {system:,} of the rows read")
    table.add_row("shortened", f"{report['truncated']['prompt']:,} prompts to the token budget, no answer")
    Console().print(table)


if __name__ == "__main__":
    run(main, __doc__, DataArguments)
