"""Whether the arms are comparable: same data, template, token budget and seeds."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from medsft.errors import UserError
from medsft.files import read_json
from medsft.records import TrainRecord
from medsft.text import method_of

Records = Mapping[str, TrainRecord]


def read_records(study: Path, arms: Iterable[str]) -> dict[str, TrainRecord]:
    """{arm: its train.json} of those arms that were trained here."""
    paths = {arm: study / arm / "train.json" for arm in arms}
    return {arm: read_json(path) for arm, path in paths.items() if path.exists()}


def differences(records: Records) -> dict[str, dict[str, object]]:
    """{what differs: {arm: its value}} over the train.json of a study's trained arms; empty where nothing differs.

    Seeds are compared as sets: `lora` with `lora_seed43` needs `full` with `full_seed43`.
    """
    keys = sorted({key for record in records.values() for key in record.get("comparable", {})})
    found: dict[str, dict[str, object]] = {}
    for key in keys:
        values = {arm: record.get("comparable", {}).get(key) for arm, record in records.items()}
        if len({str(value) for value in values.values()}) > 1:
            found[key] = values
    seeds: dict[str, list[int]] = {}
    for arm, record in sorted(records.items()):
        seeds.setdefault(method_of(arm), []).append(record["seed"])
    if len({tuple(sorted(each)) for each in seeds.values()}) > 1:
        found["seeds"] = {method: sorted(each) for method, each in seeds.items()}
    return found


def engines(study: Path, arms: Sequence[str]) -> list[str]:
    """A sentence for each arm that another engine answered than the first of them with a generation.json, the baseline
    where it is there: their difference is also one of arithmetic."""
    paths = {arm: study / arm / "generation.json" for arm in arms}
    records = {arm: read_json(path) for arm, path in paths.items() if path.is_file()}
    said = {arm: f"{each.get('engine')} ({each.get('precision')})" for arm, each in records.items()}
    first = next(iter(said), "")
    return [
        f"{arm}: answered by {said[arm]}, {first} by {said[first]}, so they differ in engine and precision too"
        for arm, each in records.items()
        if each.get("engine") != records[first].get("engine")
    ]


def check(records: Records, allowed: Sequence[str]) -> list[str]:
    """Names of the differences found, if all of them are allowed. Raises UserError for one that is not."""
    found = differences(records)
    for key, values in found.items():
        if key not in allowed:
            shown = ", ".join(f"{arm}: {value}" for arm, value in values.items())
            raise UserError(
                f"the arms differ in '{key}' ({shown}), so their scores would not compare methods; "
                f"train them alike, or allow the difference with --allow_unequal {key}"
            )
    return sorted(found)
