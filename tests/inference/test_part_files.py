"""Part files of several processes and shares, and what is put together of them."""

import json
from pathlib import Path

import pytest

from medsft.files import read_json, read_jsonl
from medsft.inference import part_files
from medsft.inference.shards import Shard


def test_each_process_of_each_share_has_a_file_of_its_own_and_all_are_found(tmp_path: Path) -> None:
    path = tmp_path / "generations.jsonl"
    every = [Shard(number, 3, share, 4) for number in range(3) for share in range(4)]
    parts = [part_files.part_file(path, "abc", shard) for shard in every]
    assert parts[0].name == "generations.abc.partial.jsonl"
    assert len(set(parts)) == 12
    for part in (*parts, tmp_path / "generations.abd.partial.jsonl", tmp_path / "seed_1.abc.partial.jsonl"):
        part.touch()
    assert part_files.part_files(path, "abc") == sorted(parts)


def test_only_the_own_torn_line_is_ended(tmp_path: Path) -> None:
    """Another machine may be in the middle of writing its line."""
    part = tmp_path / "generations.x.share_1.partial.jsonl"
    part.write_text('{"id": "a"}\n{"id": "b"')
    assert set(part_files.finished(tmp_path / "generations.jsonl", "x")) == {"a"}
    assert part.read_text().endswith('"b"')
    part_files.end_torn_line(part)
    part_files.append(part, [{"id": "b"}])
    assert set(part_files.rows_of(part)) == {"a", "b"}


@pytest.fixture
def ended(tmp_path: Path) -> Path:
    """Two shares of four rows, the second with a GPU of another kind."""
    folder = tmp_path / "lora"
    folder.mkdir()
    for share, device in ((0, "L40S"), (1, "H100")):
        shard = Shard(0, 1, share, 2)
        rows = [{"id": name, "text": name} for name in ("d", "b", "c", "a")[share::2]]
        part_files.append(part_files.part_file(folder / "generations.jsonl", "x", shard), rows)
        record = {"asked": {"generations.jsonl": 4}, "seconds": 10.0, "new_tokens": 50 + share, "device": device}
        record |= {"processes": 8, "fingerprint": "x"}
        part_files.share_record(folder, "x", shard).write_text(json.dumps(record))
    return folder


def test_shares_are_put_together_in_the_order_of_the_split(ended: Path) -> None:
    (ended / "sampled").mkdir()
    for name in (
        "likelihood.jsonl",
        "penalised.jsonl",
        "sampled/seed_3.jsonl",
    ):  # of an earlier run that asked for them
        (ended / name).touch()
    assert part_files.unmerged(ended.parent) == [(ended, "x")]
    assert part_files.merge(ended, "x", ["a", "b", "c", "d"]) == 0
    assert [row["id"] for row in read_jsonl(ended / "generations.jsonl")] == ["a", "b", "c", "d"]
    record = read_json(ended / "generation.json")
    assert (record["device"], record["processes"], record["shares"]) == ("H100, L40S", 16, 2)
    assert record["tokens_per_second"] == 5.0 and "asked" not in record
    files = sorted(path.name for path in ended.rglob("*") if path.is_file())
    assert files == ["generation.json", "generations.jsonl"]


def test_nothing_is_written_while_rows_are_missing(ended: Path) -> None:
    (lost,) = ended.glob("generations.*share_1*")
    lost.write_text("")
    assert part_files.merge(ended, "x", ["a", "b", "c", "d"]) == 2
    assert not (ended / "generations.jsonl").exists() and len([*ended.glob("*.partial.*")]) == 4


def test_what_another_share_has_put_together_meanwhile_stays(ended: Path) -> None:
    """Its part files are gone in the middle of this one's reading."""
    records = {path: path.read_text() for path in ended.glob("*.partial.json")}
    assert part_files.merge(ended, "x", ["a", "b", "c", "d"]) == 0
    written = (ended / "generations.jsonl").read_text()
    assert part_files.merge(ended, "x", ["a", "b", "c", "d"]) == 0  # no record is left
    for path, text in records.items():
        path.write_text(text)
    assert part_files.merge(ended, "x", ["a", "b", "c", "d"]) == 0  # records, and no part file
    assert (ended / "generations.jsonl").read_text() == written
