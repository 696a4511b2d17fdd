"""Arms are compared only where they had the same data, template, budget and seeds; what differs is named."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from medsft.errors import UserError
from medsft.files import read_json


def read_records(study: Path, arms: Iterable[str]) -> dict[str, dict[str, Any]]:
    """{arm: its train.json} of those arms that were trained here."""
    paths = {arm: study / arm / "train.json" for arm in arms}
    return {arm: read_json(path) for arm, path in paths.items() if path.exists()}


def differences(records: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """{what differs: {arm: its value}} over the train.json of the trained arms of a study; empty where all is equal.

    Seeds are compared as sets: `lora` with `lora_seed43` needs `full` with `full_seed43`.
    """
    keys = sorted({key for record in records.values() for key in record.get("comparable", {})})
    found = {}
    for key in keys:
        values = {arm: record.get("comparable", {}).get(key) for arm, record in records.items()}
        if len({str(value) for value in values.values()}) > 1:
            found[key] = values
    seeds: dict[str, list[int]] = {}
    for arm, record in sorted(records.items()):
        seeds.setdefault(re.sub(r"_seed\d+$", "", arm), []).append(record["seed"])
    if len({tuple(sorted(each)) for each in seeds.values()}) > 1:
        found["seeds"] = {method: sorted(each) for method, each in seeds.items()}
    return found


def check(records: Mapping[str, dict[str, Any]], allowed: list[str]) -> list[str]:
    """Names of the differences that the user allowed and that are there. Raises UserError for any other."""
    found = differences(records)
    for key, values in found.items():
        if key not in allowed:
            shown = ", ".join(f"{arm}: {value}" for arm, value in values.items())
            raise UserError(
                f"the arms differ in '{key}' ({shown}), so their scores would not compare ways of training; "
                f"train them alike, or say that it is meant with --allow_unequal {key}"
            )
    return sorted(found)
