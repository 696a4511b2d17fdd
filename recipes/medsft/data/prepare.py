"""The data stage: rows of any supported kind to one clean, de-identified, leak-free split within the token budget."""

import dataclasses
import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from medsft.arguments import DataArguments
from medsft.config import nearest
from medsft.data import data_report
from medsft.data import pipeline as step
from medsft.data.dataset_card import write_cards
from medsft.data.groups.splitting import Row, drop_exact, group, split, study_split
from medsft.data.reading.row_schemas import parse_columns
from medsft.data.reading.sources import Part, parts_of, readers
from medsft.data.rules import presidio
from medsft.data.rules.cleaning import RULES as CLEANING_RULES
from medsft.data.rules.deidentification import RULES as IDENTIFIER_RULES
from medsft.errors import UserError
from medsft.files import fingerprint, new_folder, read_json, read_jsonl, sha256_file, write_json, write_jsonl
from medsft.models.loading import load_tokenizer
from medsft.tokenization.chat_template import training_template
from medsft.versions import code_fingerprint


def prepare(args: DataArguments) -> dict[str, Any]:
    """Write study_dir/data/ and return the content of its data_report.json.

    The folder holds train, dev and test (.parquet), rejected.jsonl, README.md (the data card), croissant.json and
    data_report.json. With the same arguments, files and template nothing is done again. Raises UserError for unusable
    input.
    """
    check(args)
    sources = parts_of(args)
    readers(args, sources)  # what cannot be read is refused in one second,
    recognizer = presidio.version(args.presidio_model) if args.presidio_model else ""
    tokenizer = load_tokenizer(args.model_name_or_path)  # before this, which takes five
    template = training_template(tokenizer, args.chat_template_path)
    steps = step.Steps(Path(args.study_dir) / ".cache", args.workers)
    with steps.alone():
        code = code_fingerprint("data", "tokenization")
        wanted = arguments_that_matter(args), recognizer, template, tokenizer_key(tokenizer)
        mark = fingerprint(wanted, step.read_key(args, sources), code)
        report = done(Path(args.study_dir) / "data", mark)
        return report or make(args, sources, steps, tokenizer, template, recognizer, mark)


def done(folder: Path, mark: str) -> dict[str, Any] | None:
    """The report of a finished run with the same inputs, if there is one."""
    if not (folder / "data_report.json").is_file():
        return None
    report: dict[str, Any] = read_json(folder / "data_report.json")
    if report.get("inputs") != mark:
        return None
    print(f"already done: {folder}")
    return report


def make(
    args: DataArguments,
    sources: list[list[Part]],
    steps: step.Steps,
    tokenizer: Any,
    template: str,
    recognizer: str,
    mark: str,
) -> dict[str, Any]:
    """All steps and the files, whatever there was; `mark` stands for the inputs."""
    read, rejected_file, key = steps.read(args, sources)
    rejected = read_jsonl(rejected_file)
    check_rejected(rejected, len(read) + len(rejected), args.max_rejected, rejected_file)
    skip, keep = (skipped(args, rules) for rules in (CLEANING_RULES, IDENTIFIER_RULES))
    cleaned, key = steps.run("clean", read, key, step.clean_batch, step.CLEANED, skip=skip)
    redacted, key = steps.run("deidentify", cleaned, key, step.deidentify_batch, step.DEIDENTIFIED, skip=keep)
    named = redacted
    if args.presidio_model:
        recognized = {"model": args.presidio_model, "version": recognizer}
        named, key = steps.run("names", redacted, key, step.names_batch, step.NAMED, **recognized)
    keys, _ = steps.run("keys", step.beside(named, "turns", read, "opened_by"), key, step.keys_batch, step.KEYS)
    budget = {"tokenizer_key": tokenizer_key(tokenizer), "template": template, "max_length": args.max_length}
    fitted, _ = steps.run("tokens", named, key, step.fit_batch, step.FITTED, tokenizer=tokenizer, **budget)
    tables = data_report.Tables(read, cleaned, redacted, named, keys, fitted)

    started = time.perf_counter()
    rows = rows_left(read, keys)
    unique = rows if args.split == "study" else drop_exact(rows)
    grouped, near = group(unique, keys, args.near_duplicate)
    fits = fitted.data.table["prompt_tokens"].to_numpy() > 0
    kept = [row for row in grouped if fits[row.place]]
    if args.split == "study":
        parts, rest = study_split(kept, args.test_fraction, args.seed), "outside_study_split"
    else:
        parts, rest = split(kept, args.dev_fraction, args.test_fraction, args.seed), "near_official_split"
    steps.seconds["group and split"] = round(time.perf_counter() - started, 2)

    report = {
        **data_report.counts(tables, rejected, rows, unique, near, parts, rest),
        "samples": data_report.samples(tables, tokenizer, skip, keep),
        "seconds": steps.seconds,
        "inputs": mark,
        "arguments": dataclasses.asdict(args),
        "template_sha256": hashlib.sha256(template.encode()).hexdigest(),
    }
    write_data(Path(args.study_dir) / "data", parts, read, fitted, rejected, report)
    steps.sweep()
    return report


def load_split(study_dir: str, name: str) -> Any:
    """A split ('train', 'dev' or 'test') as a datasets.Dataset in memory. Raises UserError where it is not prepared."""
    path = Path(study_dir) / "data" / f"{name}.parquet"
    if not path.is_file():
        raise UserError(f"{path}: no such file; run: python recipes/prepare_data.py --study_dir {study_dir}")

    import pyarrow
    from datasets import Dataset
    from pyarrow.parquet import read_table

    card = path.parent / "croissant.json"  # says what each file was when it was written
    sums = {file["@id"]: file["sha256"] for file in read_json(card)["distribution"]} if card.is_file() else {}
    if sums.get(path.name, found := sha256_file(path)) != found:
        raise UserError(f"{path}: damaged since it was written; delete {path.parent} and run prepare_data.py")
    try:
        return Dataset(read_table(path))  # Dataset.from_parquet would leave a copy in a cache that can grow stale
    except (pyarrow.ArrowException, OSError) as error:  # a corrupt block is an OSError to Arrow
        raise UserError(f"{path}: not a readable Parquet file; delete {path.parent} and run prepare_data.py") from error


def check(args: DataArguments) -> None:
    """Options that no data can satisfy, found before anything is read."""
    if args.max_length < 1 or (args.max_rows is not None and args.max_rows < 1):
        raise UserError("max_length and max_rows must be at least 1")
    if min(args.dev_fraction, args.test_fraction) <= 0 or args.dev_fraction + args.test_fraction >= 1:
        raise UserError("dev_fraction and test_fraction must be above 0 and together below 1")
    if not 0 < args.near_duplicate <= 1 or not 0 <= args.max_rejected <= 1:
        raise UserError("near_duplicate must be above 0 and at most 1, max_rejected between 0 and 1")
    if args.split not in ("groups", "study"):
        raise UserError(f"split: '{args.split}' is not known; 'groups' keeps duplicates on one side, 'study' does not")
    if args.workers is not None and args.workers < 1:
        raise UserError("workers must be at least 1")
    for name in args.skip_rules:
        known = ["all", *CLEANING_RULES, *IDENTIFIER_RULES]
        if name not in known:
            raise UserError(f"skip_rules: no rule '{name}': {nearest(name, known)}")
    parse_columns(args.columns)


def arguments_that_matter(args: DataArguments) -> dict[str, Any]:
    """All but where the study is, how it is shown and how many processes work; the files count by their content."""
    without = ("study_dir", "preview", "workers", "data")
    return {key: value for key, value in dataclasses.asdict(args).items() if key not in without}


def tokenizer_key(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return fingerprint(backend.to_str() if backend is not None else sorted(tokenizer.get_vocab().items()))


def check_rejected(rejected: list[dict[str, Any]], rows_read: int, limit: float, listed: Path) -> None:
    if len(rejected) <= limit * rows_read and (len(rejected) < rows_read or not rejected):
        return  # with none left there is nothing to prepare, whatever the limit
    first = rejected[0]
    place = f"row {first['row']}" + (f", field '{first['field']}'" if first["field"] else "")
    why = first["reason"].replace("_", " ")
    counts = Counter(row["reason"].replace("_", " ") for row in rejected).most_common(3)
    most = ", ".join(f"{count} {reason}" for reason, count in counts)
    remedy = "save the file as UTF-8 (e.g. with iconv)" if counts[0][0] == "not utf8" else "mend the file"
    raise UserError(
        f"{first['file']}: {len(rejected)} of {rows_read} rows cannot be used; the first is {place}: {why}; {most}, "
        f"listed in {listed}; {remedy}, or allow more with --max_rejected"
    )


def skipped(args: DataArguments, rules: Iterable[str]) -> list[str]:
    """Which of these rules are to be left out."""
    return sorted(rules) if "all" in args.skip_rules else sorted({*args.skip_rules} & {*rules})


def rows_left(read: Any, keys: Any) -> list[Row]:
    """The rows that cleaning left, with what the split needs to know of them; those it dropped have no digest."""
    columns = (keys["digest"], read["source"], read["official"])
    return [Row(place, *known) for place, known in enumerate(zip(*columns, strict=True)) if known[0]]


def write_data(
    folder: Path, parts: dict[str, list[Row]], read: Any, fitted: Any, rejected: list[dict[str, Any]], report: Any
) -> None:
    """All files of the stage, as one folder that appears at once; puts the fingerprint of the rows into the report."""
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    message = pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())])
    texts = [(name, pyarrow.string()) for name in ("id", "source", "group")]
    counts = [(name, pyarrow.int32()) for name in ("prompt_tokens", "answer_tokens")]
    schema = pyarrow.schema([*texts, ("messages", pyarrow.list_(message)), *counts])
    content = hashlib.sha256(report["template_sha256"].encode())
    columns = fitted.select_columns(schema.names[3:]), read.select_columns("id")
    with new_folder(folder) as new:
        for name, rows in parts.items():
            with ParquetWriter(new / f"{name}.parquet", schema) as writer:
                for start in range(0, len(rows), 1000):
                    part = rows[start : start + 1000]
                    places = [row.place for row in part]
                    records = columns[0][places] | columns[1][places]
                    records |= {"source": [row.source for row in part], "group": [row.group for row in part]}
                    content.update(json.dumps([name, records], sort_keys=True).encode())
                    writer.write_table(pyarrow.table(records, schema=schema))
        report["fingerprint"] = content.hexdigest()[:16]
        write_jsonl(
            new / "rejected.jsonl", ({k: row[k] for k in ("file", "row", "field", "reason")} for row in rejected)
        )
        write_json(new / "data_report.json", report)
        write_cards(new, report)
