"""The data stage: rows of any supported kind to one clean, de-identified, leak-free split within the token budget."""

import dataclasses
import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

from tqdm import tqdm

from medsft.arguments import DataArguments
from medsft.chat_template import training_template
from medsft.cleaning import clean
from medsft.cli import UserError
from medsft.deidentification import deidentify
from medsft.dialogue import Dialogue, Rejected, read_dialogues
from medsft.files import fingerprint, new_folder, read_json, sha256_file, write_json, write_jsonl
from medsft.model import load_tokenizer
from medsft.rows import check_columns, check_hub, file_rows, local_file
from medsft.splitting import drop_exact, group, sizes, split
from medsft.token_budget import Fitted, fit

DATA_VERSION = 2  # raise it when a rule changes, so that prepared data is prepared again


def prepare(args: DataArguments) -> dict[str, Any]:
    """Write study_dir/data/ (train, dev and test .parquet, rejected.jsonl, data_report.json) and return the report.

    With the same arguments, source file and template nothing is done again. Raises UserError for unusable input.
    """
    check(args)
    path = local_file(args.data)
    if path is None:
        check_hub(args.data)
    else:  # an unusable file is refused in one second; the tokenizer takes five
        check_columns(path.name, enumerate(file_rows(path), 1))
    tokenizer = load_tokenizer(args.model_name_or_path)
    template = training_template(tokenizer, args.chat_template_path)
    mark = fingerprint(DATA_VERSION, arguments_that_matter(args), path and sha256_file(path), template)
    folder = Path(args.study_dir) / "data"
    if (folder / "data_report.json").is_file():
        report = read_json(folder / "data_report.json")
        if report.get("fingerprint") == mark:
            print(f"already done: {folder}")
            return report

    dialogues, rejected, rows_read = read_dialogues(args.data, args.data_split, args.max_rows, args.seed)
    check_rejected(rejected, rows_read, args.max_rejected)
    dropped = Counter(row.reason for row in rejected)
    dialogues, repaired = clean_all(dialogues, dropped)
    redacted = redact_all(dialogues)
    unique = drop_exact(dialogues)
    near = group(unique, args.near_duplicate)
    fitted = fit_all(unique, tokenizer, template, args.max_length)
    kept = [row for row in unique if row.id in fitted]
    parts = split(kept, args.dev_fraction, args.test_fraction, args.seed)
    dropped |= {"exact_duplicate": len(dialogues) - len(unique), "over_budget": len(unique) - len(kept)}

    report = {
        "rows_read": rows_read,
        "rows_kept": len(kept),
        "dropped": dict(sorted((+dropped).items())),
        "repaired": dict(sorted(repaired.items())),
        "redacted": dict(sorted(redacted.items())),
        "duplicates": {"exact": dropped["exact_duplicate"], "near": near, "groups": len({row.group for row in kept})},
        "splits": sizes(parts),
        "tokens": {name: token_counts([fitted[row.id] for row in rows]) for name, rows in parts.items()},
        "truncated": {"prompt": sum(fitted[row.id].shortened for row in kept), "answer": 0},
        "fingerprint": mark,
        "arguments": dataclasses.asdict(args),
        "template_sha256": hashlib.sha256(template.encode()).hexdigest(),
        "lengths": [fitted[row.id].tokens for row in parts["train"]],
    }
    write_data(folder, parts, fitted, rejected, report)
    return report


def load_split(study_dir: str, name: str) -> Any:
    """A split ('train', 'dev' or 'test') as a datasets.Dataset in memory. Raises UserError where it is not prepared."""
    path = Path(study_dir) / "data" / f"{name}.parquet"
    if not path.is_file():
        raise UserError(f"{path}: no such file; run: python recipes/prepare_data.py --study_dir {study_dir}")

    import pyarrow
    from datasets import Dataset
    from pyarrow.parquet import read_table

    try:
        return Dataset(read_table(path))  # Dataset.from_parquet would leave a copy in a cache that can grow stale
    except pyarrow.ArrowInvalid as error:
        raise UserError(f"{path}: not a readable Parquet file; delete {path.parent} and run prepare_data.py") from error


def check(args: DataArguments) -> None:
    """Options that no data can satisfy, found before anything is read."""
    if args.max_length < 1 or (args.max_rows is not None and args.max_rows < 1):
        raise UserError("max_length and max_rows must be at least 1")
    if min(args.dev_fraction, args.test_fraction) <= 0 or args.dev_fraction + args.test_fraction >= 1:
        raise UserError("dev_fraction and test_fraction must be above 0 and together below 1")
    if not 0 < args.near_duplicate <= 1 or not 0 <= args.max_rejected <= 1:
        raise UserError("near_duplicate must be above 0 and at most 1, max_rejected between 0 and 1")


def arguments_that_matter(args: DataArguments) -> dict[str, Any]:
    return {key: value for key, value in dataclasses.asdict(args).items() if key not in ("study_dir", "preview")}


def check_rejected(rejected: list[Rejected], rows_read: int, limit: float) -> None:
    if len(rejected) <= limit * rows_read:
        return
    first = rejected[0]
    place = f"row {first.row}" + (f", field '{first.field}'" if first.field else "")
    raise UserError(
        f"{first.file}: {len(rejected)} of {rows_read} rows cannot be used; the first is {place}: "
        f"{first.reason.replace('_', ' ')}; mend the file, or allow more with --max_rejected"
    )


def clean_all(dialogues: list[Dialogue], dropped: Counter[str]) -> tuple[list[Dialogue], Counter[str]]:
    """Dialogues after the cleaning rules, and the rows each repair touched; adds to `dropped` where nothing is left."""
    kept = []
    repaired = Counter(name for row in dialogues for name in row.repairs)
    for row in tqdm(dialogues, desc="cleaning", unit=" rows", delay=2):
        cleaned, names = clean(row)
        if cleaned is None:
            dropped.update(names)
            continue
        repaired.update(names)
        kept.append(cleaned)
    return kept, repaired


def redact_all(dialogues: list[Dialogue]) -> Counter[str]:
    """Put placeholders into the dialogues, in place; returns how many of each kind."""
    redacted: Counter[str] = Counter()
    for row in tqdm(dialogues, desc="de-identifying", unit=" rows", delay=2):
        turns = []
        for role, words in row.turns:
            text, counts = deidentify(words, role)
            turns.append((role, text))
            redacted += counts
        row.turns = turns
    return redacted


def fit_all(dialogues: list[Dialogue], tokenizer: Any, template: str, max_length: int) -> dict[str, Fitted]:
    """Dialogues within the token budget, by id; one that cannot be made to fit is left out."""
    fitted = {}
    for row in tqdm(dialogues, desc="counting tokens", unit=" rows", delay=2):
        messages = [{"role": role, "content": words} for role, words in row.turns]
        if (result := fit(tokenizer, template, messages, max_length)) is not None:
            fitted[row.id] = result
    return fitted


def token_counts(rows: list[Fitted]) -> dict[str, int]:
    """Sums over the rows of a split, and its longest row."""
    prompt, answer = sum(row.prompt_tokens for row in rows), sum(row.answer_tokens for row in rows)
    return {"prompt": prompt, "answer": answer, "total": prompt + answer, "max": max(row.tokens for row in rows)}


def write_data(
    folder: Path, parts: dict[str, list[Dialogue]], fitted: dict[str, Fitted], rejected: list[Rejected], report: Any
) -> None:
    """All files of the stage, as one folder that appears at once."""
    import pyarrow
    from pyarrow.parquet import write_table

    message = pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())])
    texts = [(name, pyarrow.string()) for name in ("id", "source", "group")]
    counts = [(name, pyarrow.int32()) for name in ("prompt_tokens", "answer_tokens")]
    schema = pyarrow.schema([*texts, ("messages", pyarrow.list_(message)), *counts])
    with new_folder(folder) as new:
        for name, rows in parts.items():
            records = [
                {"id": row.id, "source": row.source, "group": row.group, **dataclasses.asdict(fitted[row.id])}
                for row in rows
            ]
            write_table(pyarrow.Table.from_pylist(records, schema=schema), new / f"{name}.parquet")
        write_jsonl(new / "rejected.jsonl", (dataclasses.asdict(row) for row in rejected))
        write_json(new / "data_report.json", report)
