"""A pipeline of transforms over the rows of a study, whose tables are cached in the study's folder.

Each transform writes one Arrow table, row for row beside the one before. Its file is named by everything that it
depends on: the table before, the options, and the source code of its rules. So it runs again exactly when its
outcome could differ. The tables are memory-mapped, and all cores work on them.
"""

import dataclasses
import logging
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from medsft.arguments import DataArguments
from medsft.data.reading.dialogue import Dialogue, Rejected
from medsft.data.reading.sources import Part, read_dialogues
from medsft.data.transforms import STRINGS, TURNS, Columns, ColumnType, Transform
from medsft.files import fingerprint, read_jsonl, sha256_file, write_jsonl
from medsft.versions import code_fingerprint

if TYPE_CHECKING:
    from datasets import Dataset, Features
    from datasets.features.features import FeatureType

SMALL = 1_000  # rows; below this a second process costs more than it saves
BATCH = 250  # rows
DIALOGUE_COLUMNS: Columns = {"id": "string", "source": "string", "official": "string"}
DIALOGUE_COLUMNS |= {"turns": TURNS, "repairs": STRINGS, "statements": "string"}


class KeyedTable(NamedTuple):
    """A table, and the key that stands for everything it depends on."""

    rows: "Dataset"
    key: str


class Pipeline:
    """The cached tables of one study. `used` collects the files of this run, `seconds` the time of each transform."""

    def __init__(self, folder: Path, workers: int | None) -> None:
        self.folder = folder
        self.workers = workers or len(os.sched_getaffinity(0))
        self.used: set[str] = set()
        self.seconds: dict[str, float] = {}
        folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One run at a time works on a study: two arms that start at once may both want its data prepared."""
        from filelock import FileLock

        lock = self.folder / "lock"  # the kernel releases it, however the process ends
        self.used.add(lock.name)
        with FileLock(lock):
            yield

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 2)

    def read(self, args: DataArguments, sources: list[list[Part]]) -> tuple[KeyedTable, list[Rejected], Path]:
        """The table of dialogues, the rejected rows, and the file that lists them."""
        key = read_key(args, sources)
        path, rejected = self.folder / f"read-{key}.arrow", self.folder / f"read-{key}.jsonl"
        with self.timed("read"):
            if not path.exists():
                write_dialogues(path, rejected, read_dialogues(args, sources))
        self.used |= {path.name, rejected.name}

        from datasets import Dataset

        return (
            KeyedTable(Dataset.from_file(str(path)), key),
            [Rejected(**row) for row in read_jsonl(rejected)],
            rejected,
        )

    def run(self, transform: Transform, table: KeyedTable, depends_on: str = "", **options: object) -> KeyedTable:
        """The table that `transform` makes of `table`, from the cache where it is there.

        `options` are passed to the transform's function. Those that are texts, numbers or lists of them are part of
        the key; `depends_on` stands for all others.
        """
        from datasets import disable_progress_bars, enable_progress_bars

        plain = {k: v for k, v in options.items() if isinstance(v, (str, int, float, list, tuple, type(None)))}
        key = fingerprint(transform.name, table.key, code_fingerprint(*transform.code), plain, depends_on)
        workers = max(1, min(self.workers, len(table.rows) // SMALL))
        (disable_progress_bars if len(table.rows) < SMALL else enable_progress_bars)()
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism
        logging.getLogger("datasets").setLevel(logging.ERROR)
        with self.timed(transform.name):
            result = table.rows.map(
                transform.function,
                batched=True,
                batch_size=BATCH,
                remove_columns=table.rows.column_names,
                features=features(transform.columns),
                cache_file_name=str(self.folder / f"{transform.name}-{key}.arrow"),
                load_from_cache_file=True,
                new_fingerprint=key,
                num_proc=workers if workers > 1 else None,
                fn_kwargs=options,
                desc=transform.name,
            )
        self.used |= {Path(file["filename"]).name for file in result.cache_files}
        return KeyedTable(result, key)

    def delete_unused(self) -> None:
        """Delete the cached files that this run did not use, and what killed runs left behind."""
        for file in self.folder.iterdir():
            if file.name not in self.used:
                file.unlink(missing_ok=True)
        for pattern in (".data.*.tmp", ".data.*.old"):
            for folder in self.folder.parent.glob(pattern):
                shutil.rmtree(folder, ignore_errors=True)


def read_key(args: DataArguments, sources: list[list[Part]]) -> str:
    """What the dialogues depend on. A hub dataset counts by its name: delete the study's data to fetch it again."""
    drawn = args.seed if args.max_rows or args.weights else None
    files = [
        (part.label, part.source, part.split, sha256_file(part.path) if part.path else part.name)
        for parts in sources
        for part in parts
    ]
    code = code_fingerprint("data/reading", "data/pipeline.py")
    return fingerprint(code, files, args.columns, args.max_rows, args.weights, drawn)


def write_dialogues(path: Path, rejected: Path, rows: Iterable[Dialogue | Rejected]) -> None:
    """The dialogues as an Arrow table, the rejected rows as JSON Lines. The table appears last and whole."""
    from datasets.arrow_writer import ArrowWriter
    from tqdm import tqdm

    bad = []
    temporary = path.with_suffix(".tmp")
    with ArrowWriter(path=str(temporary), features=features(DIALOGUE_COLUMNS), writer_batch_size=1000) as writer:
        for row in tqdm(rows, desc="read", unit=" rows", delay=2):
            if isinstance(row, Dialogue):
                writer.write(dataclasses.asdict(row))
            else:
                bad.append(dataclasses.asdict(row))
        writer.finalize()
    write_jsonl(rejected, bad)
    temporary.replace(path)


def features(columns: Columns) -> "Features":
    from datasets import Features, List, Value

    def feature(kind: ColumnType) -> "FeatureType":
        if isinstance(kind, str):
            return Value(kind)
        (item,) = kind
        return List({key: Value(value) for key, value in item.items()} if isinstance(item, dict) else Value(item))

    return Features({name: feature(kind) for name, kind in columns.items()})
