"""The steps that every row passes on its own: read, clean, de-identify, count tokens, tell from others.

Each writes one Arrow table into the study's hidden cache folder, row for row beside the one before, named by everything
it depends on: the step before, the options it reads, and the source code of its rules. So a step is done
again exactly when its outcome could differ. The tables are memory-mapped and worked on by all cores.
"""

import dataclasses
import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medsft.arguments import DataArguments
from medsft.data.reading.sources import Part, read_dialogues
from medsft.files import fingerprint, sha256_file, write_jsonl
from medsft.versions import code_fingerprint

TURNS = [{"role": "string", "text": "string"}]
SMALL = 1_000  # rows; below this a second process costs more than it saves
BATCH = 250
HERE = "data/pipeline.py"
ROOMS = {  # whose code each step's outcome depends on
    "read": ("data/reading", HERE),
    "clean": ("data/reading", "data/rules", HERE),
    "deidentify": ("data/reading", "data/rules", HERE),
    "names": ("data/reading", "data/rules", HERE),
    "keys": ("data/reading", "data/groups", HERE),
    "tokens": ("tokenization", HERE),
}


class Steps:
    """The cached tables of one study. `used` collects the files of this run, `seconds` what each step took."""

    def __init__(self, folder: Path, workers: int | None) -> None:
        self.folder = folder
        self.workers = workers or len(os.sched_getaffinity(0))
        self.used: set[str] = set()
        self.seconds: dict[str, float] = {}
        folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One run at a time works on a study: two arms started at once may both want its data prepared."""
        from filelock import FileLock

        lock = self.folder / "lock"  # which the kernel lets go of, however the process ends
        self.used.add(lock.name)
        with FileLock(lock):
            yield

    def read(self, args: DataArguments, sources: list[list[Part]]) -> tuple[Any, Path, str]:
        """Rows as dialogues, the file of rejected rows, and the step's key."""
        key = read_key(args, sources)
        started = time.perf_counter()
        path, rejected = self.folder / f"read-{key}.arrow", self.folder / f"read-{key}.jsonl"
        if not path.exists():
            write_rows(path, rejected, read_dialogues(args, sources))
        self.used |= {path.name, rejected.name}
        self.seconds["read"] = round(time.perf_counter() - started, 2)
        return memory_mapped(path), rejected, key

    def run(
        self, name: str, table: Any, before: str, function: Callable[..., Any], columns: Any, **options: Any
    ) -> Any:
        """`function` over batches of `table`: the new table of `columns`, and the key of this step.

        `options` are passed to the function; those that are not plain values must come with their own `*_key`.
        """
        from datasets import disable_progress_bars, enable_progress_bars

        plain = {k: v for k, v in options.items() if isinstance(v, (str, int, float, list, tuple, type(None)))}
        key = fingerprint(name, before, code_fingerprint(*ROOMS[name]), plain)
        workers = max(1, min(self.workers, len(table) // SMALL))
        (disable_progress_bars if len(table) < SMALL else enable_progress_bars)()
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism
        logging.getLogger("datasets").setLevel(logging.ERROR)
        started = time.perf_counter()
        result = table.map(
            function,
            batched=True,
            batch_size=BATCH,
            remove_columns=table.column_names,
            features=features(columns),
            cache_file_name=str(self.folder / f"{name}-{key}.arrow"),
            load_from_cache_file=True,
            new_fingerprint=key,
            num_proc=workers if workers > 1 else None,
            fn_kwargs=options,
            desc=name,
        )
        self.used |= {Path(file["filename"]).name for file in result.cache_files}
        self.seconds[name] = round(time.perf_counter() - started, 2)
        return result, key

    def sweep(self) -> None:
        """Delete what this run did not use, and what killed runs left behind."""
        for file in self.folder.iterdir():
            if file.name not in self.used:
                file.unlink(missing_ok=True)
        for pattern in (".data.*.tmp", ".data.*.old"):
            for folder in self.folder.parent.glob(pattern):
                shutil.rmtree(folder, ignore_errors=True)


def read_key(args: DataArguments, sources: list[list[Part]]) -> str:
    """What the rows depend on. A hub dataset counts by its name: delete the study's data to fetch it anew."""
    drawn = args.seed if args.max_rows or args.weights else None
    files = [
        (part.label, part.source, part.split, sha256_file(part.path) if part.path else part.name)
        for parts in sources
        for part in parts
    ]
    return fingerprint(code_fingerprint(*ROOMS["read"]), files, args.columns, args.max_rows, args.weights, drawn)


def features(columns: dict[str, Any]) -> Any:
    from datasets import Features, List, Value

    def kind(spec: Any) -> Any:
        if isinstance(spec, str):
            return Value(spec)
        return List({k: kind(v) for k, v in spec[0].items()} if isinstance(spec[0], dict) else kind(spec[0]))

    return Features({name: kind(spec) for name, spec in columns.items()})


def memory_mapped(path: Path) -> Any:
    from datasets import Dataset

    return Dataset.from_file(str(path))


def beside(first: Any, column: str, second: Any, other: str) -> Any:
    """One column of each of two tables of the same rows."""
    from datasets import concatenate_datasets

    return concatenate_datasets([first.select_columns(column), second.select_columns(other)], axis=1)


READ = {"id": "string", "source": "string", "official": "string", "opened_by": "string", "turns": TURNS}
READ |= {"repairs": ["string"]}


def write_rows(path: Path, rejected: Path, rows: Iterable[Any]) -> None:
    """The usable rows as an Arrow table, the others as JSON Lines; both appear whole or not at all."""
    from datasets.arrow_writer import ArrowWriter
    from tqdm import tqdm

    from medsft.data.reading.dialogue import Dialogue

    bad = []
    temporary = path.with_suffix(".tmp")
    with ArrowWriter(path=str(temporary), features=features(READ), writer_batch_size=1000) as writer:
        for row in tqdm(rows, desc="read", unit=" rows", delay=2):
            if not isinstance(row, Dialogue):
                bad.append(dataclasses.asdict(row))
                continue
            record = dataclasses.asdict(row)
            record["turns"] = [{"role": role, "text": text} for role, text in row.turns]
            writer.write(record)
        writer.finalize()
    write_jsonl(rejected, bad)
    temporary.replace(path)


CLEANED = {"turns": TURNS, "dropped": "string", "fired": ["string"]}


def clean_batch(batch: dict[str, list[Any]], skip: list[str]) -> dict[str, list[Any]]:
    from medsft.data.rules.cleaning import clean

    out: dict[str, list[Any]] = {name: [] for name in CLEANED}
    for turns in batch["turns"]:
        kept, names = clean(pairs(turns), skip)
        out["turns"].append(records(kept or []))
        out["dropped"].append("" if kept else names[0])
        out["fired"].append(names if kept else [])
    return out


DEIDENTIFIED = {"turns": TURNS, "redacted": ["string"], "fired": ["string"], "dropped": "string"}


def deidentify_batch(batch: dict[str, list[Any]], skip: list[str]) -> dict[str, list[Any]]:
    from medsft.data.rules.deidentification import deidentify_turns

    out: dict[str, list[Any]] = {name: [] for name in DEIDENTIFIED}
    for turns in batch["turns"]:
        kept, counts, fired = deidentify_turns(pairs(turns), skip) if turns else ([], Counter(), [])
        out["turns"].append(records(kept))
        out["redacted"].append(list(counts.elements()))
        out["fired"].append(fired)
        out["dropped"].append("boilerplate_only" if turns and not kept else "")
    return out


NAMED = {"turns": TURNS, "redacted": ["string"]}


def names_batch(batch: dict[str, list[Any]], model: str, version: str) -> dict[str, list[Any]]:
    """Full names that Presidio finds; `redacted` holds the kinds of this step alone."""
    from medsft.data.rules.presidio import redact

    found = redact([turn["text"] for turns in batch["turns"] for turn in turns], model)
    out: dict[str, list[Any]] = {name: [] for name in NAMED}
    for turns in batch["turns"]:
        texts = [next(found) for _ in turns]
        roles = [turn["role"] for turn in turns]
        out["turns"].append(records(zip(roles, [text for text, _ in texts], strict=True)))
        out["redacted"].append([kind for _, counts in texts for kind in counts.elements()])
    return out


KEYS = {"digest": "string", "conversation": ["string"], "question": "string", "opening": "string", "sketch": "binary"}


def keys_batch(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    from medsft.data.groups.splitting import keys

    rows = [
        keys(pairs(turns), opened_by) if turns else NO_KEYS
        for turns, opened_by in zip(batch["turns"], batch["opened_by"], strict=True)
    ]
    return {name: [row[name] for row in rows] for name in KEYS}


NO_KEYS: dict[str, Any] = {"digest": "", "conversation": [], "question": "", "opening": "", "sketch": b""}
FITTED = {"messages": [{"role": "string", "content": "string"}], "prompt_tokens": "int32", "answer_tokens": "int32"}
FITTED |= {"shortened": "bool", "broken": "bool"}


def fit_batch(
    batch: dict[str, list[Any]], tokenizer: Any, tokenizer_key: str, template: str, max_length: int
) -> dict[str, list[Any]]:
    """Messages within the token budget; none where the row cannot be made to fit."""
    from medsft.tokenization.truncation import fit

    out: dict[str, list[Any]] = {name: [] for name in FITTED}
    for turns in batch["turns"]:
        messages = [{"role": turn["role"], "content": turn["text"]} for turn in turns]
        fitted = fit(tokenizer, template, messages, max_length) if messages else None
        for name in FITTED:
            out[name].append(getattr(fitted, name) if fitted else [] if name == "messages" else 0)
    return out


def pairs(turns: list[dict[str, str]]) -> list[tuple[str, str]]:
    return [(turn["role"], turn["text"]) for turn in turns]


def records(turns: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"role": role, "text": text} for role, text in turns]
