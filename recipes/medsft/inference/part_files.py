"""The part files of an arm's answers: one for each process that answers, put together once no answer is missing.

A run may be cut into shares that end at different times on different machines (--shard, --shards). Each process
appends to part files of its own, each share leaves a record when it has ended, and whoever finds all answers there
writes the arm's files: the last share, score.py, or generate.py for the whole.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from medsft.files import sha256_file, write_json, write_jsonl
from medsft.inference.sampling import PENALISED
from medsft.inference.shards import Shard
from medsft.records import Json

ANSWERS, LIKELIHOOD, MEMORIZATION = "generations.jsonl", "likelihood.jsonl", "memorization.jsonl"
RECORD = "generation.json"
Rows = dict[str | int, Json]


def part_file(path: Path, digest: str, shard: Shard) -> Path:
    """Where this process appends its rows of `path`, of a run with the fingerprint `digest`."""
    share = f".share_{shard.share}" if shard.share else ""
    number = "" if shard.is_first else f".{shard.number}"
    return path.with_name(f"{path.stem}.{digest}{share}{number}.partial.jsonl")


def part_files(path: Path, digest: str) -> list[Path]:
    """Those of all processes and shares, also of an earlier launch with more of them."""
    return sorted(path.parent.glob(f"{path.stem}.{digest}*.partial.jsonl"))


def append(part: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Add finished rows to a part file and wait until they are on the disk."""
    with part.open("a", encoding="utf-8") as handle:
        handle.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        handle.flush()
        os.fsync(handle.fileno())


def rows_of(part: Path) -> Rows:
    """Rows of a part file by id. A line torn by a crash is left out, so its row is answered again."""
    rows: Rows = {}
    try:
        text = part.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return rows
    for line in text.split("\n"):
        try:
            row = json.loads(line)
            rows[row["id"]] = row
        except (ValueError, KeyError, TypeError):
            continue
    return rows


def end_torn_line(part: Path) -> None:
    """End the line that a crash tore in a part file of this process, or the next row would be appended to it."""
    if part.exists() and part.stat().st_size and not part.read_bytes().endswith(b"\n"):
        with part.open("a", encoding="utf-8") as handle:
            handle.write("\n")


def finished(path: Path, digest: str) -> Rows:
    """The rows in all part files of `path`, by id."""
    found: Rows = {}
    for part in part_files(path, digest):
        found |= rows_of(part)
    return found


def sampled_files(folder: Path) -> dict[int, Path]:
    """The finished files of sampled answers by seed."""
    files = [path for path in folder.glob("sampled/seed_*.jsonl") if ".partial" not in path.name]
    return dict(sorted((int(path.stem.removeprefix("seed_")), path) for path in files))


def share_record(folder: Path, digest: str, shard: Shard) -> Path:
    """What a share leaves when it has ended."""
    return folder / f"generation.{digest}.share_{shard.share}_of_{shard.shares}.partial.json"


def ended_shares(folder: Path, digest: str) -> list[Path]:
    return sorted(folder.glob(f"generation.{digest}.share_*.partial.json"))


def unmerged(answers: Path) -> list[tuple[Path, str]]:
    """(arm's folder, fingerprint) of each run of which a share has ended and that is not put together."""
    found = {(path.parent, path.name.split(".")[1]) for path in answers.glob("*/generation.*.share_*.partial.json")}
    return sorted(found)


def merge(folder: Path, digest: str, order: Sequence[str | int]) -> int:
    """Write the arm's files and generation.json from the part files, if all rows are there; returns how many are not.

    `order`: the ids of the test rows as the split has them. The shares' records say what was asked for. Several may do
    this at once: they write the same, and where part files are gone another one has ended first.
    """
    records = [record for path in ended_shares(folder, digest) if (record := _read(path))]
    asked: dict[str, int] = records[0]["asked"] if records else {}
    left = [count - len(finished(folder / name, digest)) for name, count in asked.items()]
    if missing := sum(max(0, count) for count in left):
        return 0 if _read(folder / RECORD).get("fingerprint") == digest else missing
    place = {name: at for at, name in enumerate(order)}
    for name, count in asked.items():
        rows = finished(folder / name, digest)
        if len(rows) < count:
            return 0
        kept = sorted(rows, key=lambda one: place.get(one, 0))  # the prefixes keep their order: they are no test rows
        write_jsonl(folder / name, [rows[one] for one in kept])
    if not records:
        return 0
    drawn = {str(path.relative_to(folder)) for path in sampled_files(folder).values()}
    for name in ({LIKELIHOOD, MEMORIZATION, f"{PENALISED}.jsonl"} | drawn) - {*asked}:  # answers of an earlier run
        (folder / name).unlink(missing_ok=True)
    write_json(folder / RECORD, _joined(records) | {"sha256": sha256_file(folder / ANSWERS)})
    for part in [*folder.rglob("*.partial.jsonl"), *folder.glob("*.partial.json")]:
        part.unlink(missing_ok=True)
    return 0


def _read(path: Path) -> Json:
    """A record; {} where it is not there, or not any more."""
    try:
        record: Json = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return record


def _joined(records: Sequence[Json]) -> Json:
    """generation.json of shares: new tokens a second are those of one share's machine, on average."""
    seconds = sum(record["seconds"] for record in records)
    tokens = sum(record["new_tokens"] for record in records)
    joined = {name: value for name, value in records[0].items() if name not in ("asked", "seconds", "new_tokens")}
    joined["device"] = ", ".join(sorted({record["device"] for record in records}))
    joined["processes"] = sum(record["processes"] for record in records)
    return joined | {"shares": len(records), "tokens_per_second": round(tokens / max(seconds, 1e-9), 1)}
