"""Sources of dialogues: a file, a folder, a glob, a hub dataset, or several of these with weights.

A source may bring its own test split: a hub dataset with splits, or files named train and test (or validation). A
validation split without a test split is used as the test split.
"""

import random
import re
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from medsft.arguments import DataArguments
from medsft.data.reading.dialogue import Dialogue, Rejected, read_row
from medsft.data.reading.file_formats import ENDINGS, PACKED_ENDINGS, file_rows
from medsft.data.reading.row_schemas import RowSchema, normal_row, parse_columns, schema_for
from medsft.errors import UserError
from medsft.hub import hub_reachable

if TYPE_CHECKING:
    from datasets import DatasetDict

SAMPLE = Path(__file__).resolve().parents[3] / "sample" / "dialogues.jsonl"
METADATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "croissant.json"}
SPLIT_WORD = re.compile(r"(?:^|[-_.])(train|training|test|testing|validation|valid|val|dev)(?=$|[-_.])", re.IGNORECASE)
SHARD = re.compile(r"[-_.]?\d+-of-\d+")
LOCAL = "give a local file, a folder or a glob with --data, or --data sample"
FIRST_ROWS = 100  # whose columns decide the schema of a part


class Part(NamedTuple):
    """One file, or one split of a hub dataset. `split` is 'train', 'dev', 'test', or '' if unknown."""

    name: str
    label: str  # unique; the ids of its rows are LABEL:NUMBER
    source: str
    split: str
    path: Path | None = None
    hub_split: str = ""

    def rows(self) -> Iterator[object]:
        rows = file_rows(self.path) if self.path else iter(hub_dataset(self.name)[self.hub_split])
        return map(normal_row, rows)


def parts_of(args: DataArguments) -> list[list[Part]]:
    """The parts of every source in `args.data`. Raises UserError for what does not exist."""
    names = [args.data] if isinstance(args.data, str) else list(args.data)
    if not names:
        raise UserError(f"data: names nothing; {LOCAL}")
    if args.weights and (len(args.weights) != len(names) or min(args.weights) <= 0):
        raise UserError(f"weights: give one number above 0 for each of the {len(names)} sources in data")
    sources, taken = [], set()
    for name in names:
        files = local_files(name)
        parts = hub_parts(name, args.data_split) if files is None else [describe(path, name) for path in files]
        parts = official(parts) if args.official_split else [part._replace(split="") for part in parts]
        for position, part in enumerate(parts):
            label, copy = part.label, 2
            while label in taken:
                label, copy = f"{part.label}-{copy}", copy + 1
            taken.add(label)
            parts[position] = part._replace(label=label)
        sources.append(parts)
    return sources


def local_files(name: str) -> list[Path] | None:
    """The files that `name` stands for, in order; None where it must be a hub dataset."""
    path = SAMPLE if name == "sample" else Path(name).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if readable(file, path))
        if not found:
            endings, packed = ", ".join(ENDINGS), ", ".join(PACKED_ENDINGS)
            raise UserError(f"{path}: no dialogue files in this folder (looked for {endings}, also {packed})")
        return found
    if any(character in name for character in "*?["):
        pattern = str(path.relative_to(path.anchor))
        found = sorted(file for file in Path(path.anchor).glob(pattern) if file.is_file())
        if not found:
            raise UserError(f"{name}: no file matches this pattern")
        return found
    if stem(path) != path.name or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError(f"{path}: no such file; give an existing file or folder, or 'sample'")
    return None


def readable(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return file.is_file() and not hidden and file.name not in METADATA and stem(file) != file.name


def stem(path: Path) -> str:
    """The file's name without its endings, such as .jsonl.gz."""
    name = path.name
    for endings in (PACKED_ENDINGS, ENDINGS):
        name = next((name.removesuffix(ending) for ending in endings if name.endswith(ending)), name)
    return name


def describe(path: Path, given: str) -> Part:
    """A file as a part. Its source and split are derived from its name and the names of its folders."""
    bare = SHARD.sub("", stem(path))
    word = SPLIT_WORD.search(bare) or (SPLIT_WORD.fullmatch(path.parent.name) if Path(given) != path else None)
    source = SPLIT_WORD.sub("", bare).strip("-_.") if word else bare
    if source in ("", "data") and Path(given) != path:  # train-00000-of-00002.parquet is named by its folder
        folder = path.parent.parent if SPLIT_WORD.fullmatch(path.parent.name) else path.parent
        source = folder.parent.name if folder.name == "data" else folder.name
    split = {"tr": "train", "te": "test"}.get(word[1][:2].lower(), "dev") if word else ""
    return Part(str(path), stem(path), source or stem(path), split, path)


def official(parts: list[Part]) -> list[Part]:
    """The parts with the splits of the source itself; a test file without a training file ('my_test.csv') is none."""
    splits = {part.split for part in parts}
    if splits & {"train", ""} and "test" in splits:
        return parts
    if splits & {"train", ""} and "dev" in splits:
        return [part._replace(split="test" if part.split == "dev" else part.split) for part in parts]
    return [part._replace(split="") for part in parts]


def hub_parts(name: str, train: str) -> list[Part]:
    """The splits of a hub dataset. Raises UserError within seconds where the hub cannot be reached."""
    names = list(hub_dataset(name))
    if train not in names:
        raise UserError(f"{name}: no split '{train}' (data_split); it has {', '.join(names)}")
    ours = {train: "train"}  # hub split: split
    for split in names:
        if split != train and (word := SPLIT_WORD.fullmatch(split)) and not word[1].startswith("train"):
            ours[split] = "test" if word[1].startswith("test") else "dev"
    return [Part(name, f"{name}/{theirs}", name, split, hub_split=theirs) for theirs, split in ours.items()]


def hub_dataset(name: str) -> "DatasetDict":
    """All splits. With HF_HUB_OFFLINE=1 the local cache is used, and the hub is not tried first."""
    from huggingface_hub.constants import HF_HUB_OFFLINE

    if not HF_HUB_OFFLINE and not hub_reachable():
        raise UserError(f"{name}: no such file, and the hub cannot be reached; {LOCAL}")
    import datasets

    try:
        return datasets.load_dataset(name)
    except Exception as error:  # offline, gated, misspelt: the libraries raise some twenty types of errors
        raise UserError(f"{name}: cannot load it from the hub ({type(error).__name__}); {LOCAL}") from error


def schemas_of(args: DataArguments, sources: list[list[Part]]) -> dict[str, RowSchema]:
    """{label of a part: schema of its rows}, detected from the columns of its first rows.

    The user's mapping (`args.columns`) applies to the parts that have its columns; the others need a known schema.
    Raises UserError for an empty part, for an unknown schema, and where the mapping fits no part.
    """
    columns = parse_columns(args.columns)
    schemas: dict[str, RowSchema] = {}
    for part in chain.from_iterable(sources):
        first = list(islice(part.rows(), FIRST_ROWS))
        if not first:
            raise UserError(f"{part.name}: the file is empty; it needs rows with a patient's and a doctor's words")
        found = list({str(key): None for row in first if isinstance(row, dict) for key in row if key is not None})
        schemas[part.label] = schema_for(found, columns, part.name, first)
    if columns is not None and columns not in [schema.columns for schema in schemas.values()]:
        raise UserError(f"columns: no source has the columns {', '.join(filter(None, columns))}")
    return schemas


def read_dialogues(args: DataArguments, sources: list[list[Part]]) -> Iterator[Dialogue | Rejected]:
    """Every drawn row, as a dialogue or as rejected, in the order of the sources and their rows."""
    schemas = schemas_of(args, sources)
    for parts, drawn in zip(sources, drawn_rows(args, sources), strict=True):
        before = 0
        for part in parts:
            number = 0
            for number, row in enumerate(part.rows(), 1):
                if drawn is None or before + number in drawn:
                    yield read_row(row, number, part, schemas[part.label])
            before += number


def drawn_rows(args: DataArguments, sources: list[list[Part]]) -> list[set[int] | None]:
    """For each source, the numbers of the rows to read, counted from 1 over all its parts; None for all rows.

    With weights each source gives its share, no row twice: the source that is shortest for its weight sets the sum.
    """
    if args.max_rows is None and not args.weights:
        return [None] * len(sources)
    counts = [sum(sum(1 for _ in part.rows()) for part in parts) for parts in sources]
    generator = random.Random(args.seed)
    if not args.weights:
        drawn = generator.sample(range(1, sum(counts) + 1), min(args.max_rows or 0, sum(counts)))
        starts = [sum(counts[:position]) for position in range(len(counts))]
        limits = zip(starts, counts, strict=True)
        return [{number - start for number in drawn if start < number <= start + size} for start, size in limits]
    shares = [weight / sum(args.weights) for weight in args.weights]
    total = min(count / share for count, share in zip(counts, shares, strict=True))
    total = min(total, args.max_rows or total)
    return [
        set(generator.sample(range(1, count + 1), min(count, round(total * share))))
        for count, share in zip(counts, shares, strict=True)
    ]
