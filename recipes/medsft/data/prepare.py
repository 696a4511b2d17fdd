"""The data stage: rows of any supported kind to one clean, de-identified, leak-free split within the token budget."""

import dataclasses
import hashlib
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from medsft.arguments import DataArguments
from medsft.data import also_test, data_report, transforms
from medsft.data.data_report import SplitRows, Tables
from medsft.data.dataset_card import write_cards
from medsft.data.dropped_rows import dropped_rows, hidden, write_dropped
from medsft.data.groups.answers import answers_once
from medsft.data.groups.grouping import drop_exact, group, remaining_rows
from medsft.data.groups.splitting import split, study_split
from medsft.data.options import check_options, skipped
from medsft.data.pipeline import Pipeline, read_key
from medsft.data.reading.dialogue import Rejected
from medsft.data.reading.sources import Part, parts_of, schemas_of
from medsft.data.rules import presidio
from medsft.data.rules.cleaning import RULES as CLEANING_RULES
from medsft.data.rules.deidentification import RULES as IDENTIFIER_RULES
from medsft.data.rules.identifiers.measured import measure
from medsft.data.split_files import ALSO_TEST, write_splits
from medsft.errors import UserError
from medsft.files import fingerprint, new_folder, read_json, write_json
from medsft.models.loading import load_tokenizer
from medsft.models.model_checks import check_length
from medsft.records import DataReport, Json
from medsft.study import lineage
from medsft.tokenization import system_turns
from medsft.tokenization.chat_template import training_template
from medsft.versions import code_fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def prepare(args: DataArguments) -> DataReport:
    """Write study_dir/data/ and return the content of its data_report.json.

    The folder holds train, dev and test (.parquet), dropped.jsonl, README.md (the dataset card), croissant.json and
    data_report.json. With the same arguments, files and template the finished report is returned. Raises UserError for
    unusable input, and where arms of the study stand on other rows: then the old folder stays.
    """
    check_options(args)
    check_length(args.model_name_or_path, args.max_length)
    sources = parts_of(args)
    further = also_test.named_files(args)
    others = also_test.sources_of(further)
    for name, parts in others.items():
        further[name] = also_test.readable(further[name], parts)
    schemas_of(args, sources)  # refuses unreadable sources in a second, before the tokenizer takes five to load
    recognizer = presidio.version(args.presidio_model) if args.presidio_model else ""
    tokenizer = load_tokenizer(args.model_name_or_path)
    template = training_template(tokenizer, args.chat_template_path)
    system = system_turns.choose(args.system_turns, tokenizer, template, args.model_name_or_path)
    pipeline = Pipeline(Path(args.study_dir) / ".cache", args.workers)
    with pipeline.locked():
        code = code_fingerprint("data", "tokenization")
        wanted = relevant_options(args), recognizer, template, tokenizer_key(tokenizer)
        more = {name: read_key(further[name], parts) for name, parts in others.items()}
        inputs = fingerprint(wanted, read_key(args, sources), code, *([more] if more else []))
        report = finished(Path(args.study_dir) / "data", inputs)
        steps = Steps(pipeline, tokenizer, template, system, recognizer)
        return report or run(args, sources, steps, inputs, further, others)


def finished(folder: Path, inputs: str) -> DataReport | None:
    """The report of a finished run with the same inputs, if there is one."""
    if not (folder / "data_report.json").is_file():
        return None
    report: DataReport = read_json(folder / "data_report.json")
    if report.get("inputs") != inputs:
        return None
    print(f"already done: {folder}")
    return report


class Steps(NamedTuple):
    """What the transforms are run with: the cached pipeline, tokenizer, template, system turns, version of Presidio."""

    pipeline: Pipeline
    tokenizer: "PreTrainedTokenizerBase"
    template: str
    system: str
    recognizer: str


def transformed(args: DataArguments, sources: list[list[Part]], steps: Steps) -> tuple[Tables, list[Rejected]]:
    """The tables of these sources after each transform, and the rejected rows."""
    pipeline = steps.pipeline
    read, rejected, listed = pipeline.read(args, sources)
    check_rejected(rejected, len(read.rows) + len(rejected), args.max_rejected, listed)
    cleaned = pipeline.run(transforms.CLEAN, read, skip=skipped(args, CLEANING_RULES))
    skip = skipped(args, IDENTIFIER_RULES)
    redacted = pipeline.run(transforms.DEIDENTIFY, cleaned, skip=skip, level=args.deid_level)
    named = redacted
    if args.presidio_model:
        named = pipeline.run(transforms.FIND_NAMES, redacted, depends_on=steps.recognizer, model=args.presidio_model)
    keys = pipeline.run(transforms.GROUP_KEYS, named)
    budget = {"template": steps.template, "max_length": args.max_length, "system_turns": steps.system}
    key = tokenizer_key(steps.tokenizer)
    fitted = pipeline.run(transforms.FIT, named, key, tokenizer=steps.tokenizer, **budget)
    return Tables(read.rows, cleaned.rows, redacted.rows, named.rows, keys.rows, fitted.rows), rejected


def run(
    args: DataArguments,
    sources: list[list[Part]],
    steps: Steps,
    inputs: str,
    further: dict[str, DataArguments],
    others: dict[str, list[list[Part]]],
) -> DataReport:
    """Run all transforms, and write the folder. `inputs` is the fingerprint of everything given.

    `further` and `others` are the options and the parts of the further test sets.
    """
    pipeline, tokenizer, template, system, _ = steps
    tables, rejected = transformed(args, sources, steps)
    skip_cleaning, skip_identifiers = skipped(args, CLEANING_RULES), skipped(args, IDENTIFIER_RULES)
    level = args.deid_level
    with pipeline.timed("group and split"):
        rows = split_rows(args, tables)

    folder = Path(args.study_dir) / "data"
    template_sha256 = hashlib.sha256(template.encode()).hexdigest()
    hide = partial(hidden, role="assistant", skip=skip_identifiers, level=level)
    with new_folder(folder) as new:
        found: dict[str, Json] = {}
        for name, options in further.items():
            also, bad = transformed(options, others[name], steps)
            kept = [row for part in rows.parts.values() for row in part]
            chosen, near, copies = also_test.choose(tables, kept, also, args.near_duplicate, args.seed)
            if not chosen:
                raise UserError(f"{options.data[0]}: no row is left for a test set of its own; give another file")
            split_name = {f"{ALSO_TEST}{name}": chosen}
            digest = write_splits(new, split_name, also.read, also.fitted, template_sha256, hide)
            found[name] = also_test.count(also, bad, chosen, near, copies, digest)
        report: DataReport = {
            **data_report.count_rows(tables, rejected, rows),
            "deidentification": {"level": level, "held_out": measure("held_out", level)},
            "system_turns": {**data_report.system_turn_counts(tables, rows, system)},
            "samples": data_report.examples(tables, tokenizer, skip_cleaning, skip_identifiers, level),
            "seconds": pipeline.seconds,
            "inputs": inputs,
            "arguments": dataclasses.asdict(args),
            "template_sha256": template_sha256,
            "fingerprint": write_splits(new, rows.parts, tables.read, tables.fitted, template_sha256, hide),
        }
        lineage.check_replacement(Path(args.study_dir), report["fingerprint"])
        if found:
            report["also_test"] = found
        write_dropped(new / "dropped.jsonl", dropped_rows(tables, rejected, rows, skip_identifiers, level))
        write_json(new / "data_report.json", report)
        write_cards(new, report)
    pipeline.delete_unused()
    return report


def split_rows(args: DataArguments, tables: Tables) -> SplitRows:
    """The rows that cleaning left, without copies, grouped, within the token budget, and assigned to the splits.

    Raises UserError where no row is left.
    """
    remaining = remaining_rows(tables.read, tables.keys)
    check_any_left(tables, len(remaining), args)
    unique = remaining if args.split == "study" else drop_exact(remaining)
    grouped, near = group(unique, tables.keys, args.near_duplicate)
    fits = tables.fitted.data.table["prompt_tokens"].to_numpy() > 0
    fitting = [row for row in grouped if fits[row.position]]
    if not fitting:
        raise UserError(
            f"max_length: no dialogue fits {args.max_length} tokens; give more, for example --max_length "
            f"{max(512, 4 * args.max_length)}"
        )
    if args.split == "study":
        parts = study_split(fitting, args.test_fraction, args.seed)
        return SplitRows(remaining, unique, near, parts, "outside_study_split", [])
    parts, longer = split(fitting, args.dev_fraction, args.test_fraction, args.seed), []
    if args.answers_once:
        answers, kept = data_report.answers_of(tables.keys), data_report.exchanges_kept(tables.fitted)
        for name in ("train", "dev"):
            parts[name], left = answers_once(parts[name], answers, kept)
            longer += left
    return SplitRows(remaining, unique, near, parts, "near_official_split", longer)


def check_any_left(tables: Tables, remaining: int, args: DataArguments) -> None:
    """Raise UserError where cleaning and de-identification dropped every row."""
    if remaining:
        return
    dropped = data_report.tally(tables.cleaned.data.table["dropped"])
    dropped += data_report.tally(tables.redacted.data.table["dropped"])
    if not dropped:
        raise UserError(f"{args.data[0]}: no row was drawn; raise --max_rows, or leave --weights out")
    most = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in dropped.most_common())
    rules = {"boilerplate_only": "boilerplate_only", "signature_only": "sign_off"}
    skip = " ".join(rule for reason, rule in rules.items() if dropped[reason])
    remedy = f"keep such answers with --skip_rules {skip}, or give another corpus" if skip else "give another corpus"
    raise UserError(f"{args.data[0]}: no row is left of {len(tables.read)}: {most}; {remedy}")


def check_rejected(rejected: list[Rejected], rows_read: int, limit: float, listed: Path) -> None:
    """Raise UserError where more than the share `limit` of the rows is rejected, or all of them."""
    if len(rejected) <= limit * rows_read and (len(rejected) < rows_read or not rejected):
        return
    first = rejected[0]
    where = f"row {first.row}" + (f", field '{first.field}'" if first.field else "")
    counts = Counter(row.reason.replace("_", " ") for row in rejected).most_common(3)
    most = ", ".join(f"{count} {reason}" for reason, count in counts)
    remedy = "mend the file"
    if counts[0][0] == "not utf8":
        remedy = "save the file as UTF-8, for example with: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW"
    if len(rejected) < rows_read:
        remedy += ", or allow more with --max_rejected 1"
    raise UserError(
        f"{first.file}: {len(rejected)} of {rows_read} rows cannot be used; the first is {where}: "
        f"{first.reason.replace('_', ' ')}; {most}, listed in {listed}; {remedy}"
    )


def relevant_options(args: DataArguments) -> Json:
    """The options that the outcome depends on; the files of `data` count by their content instead."""
    without = ("study_dir", "preview", "workers", "data", "also_test")
    return {key: value for key, value in dataclasses.asdict(args).items() if key not in without}


def tokenizer_key(tokenizer: "PreTrainedTokenizerBase") -> str:
    """A fingerprint of everything the tokenizer does to a text, or of its vocabulary where it is a slow one."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return fingerprint(backend.to_str() if backend is not None else sorted(tokenizer.get_vocab().items()))
