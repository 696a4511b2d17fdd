"""kill -9 at random moments of every stage: the next run must end with the undisturbed result."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stage import Run, commands, moments, run

VOLATILE = {
    "seconds",
    "wall_seconds",
    "tokens_per_second",
    "peak_memory",
    "predicted_memory",
    "step_seconds",
    "versions",
}
VOLATILE |= {"time", "date", "created", "arguments", "settings", "fingerprint", "study", "load_before", "energy"}
VOLATILE |= {"study_dir", "joules", "memory", "hardware", "machine", "cost", "throughput", "price", "dateCreated"}
VOLATILE |= {"memory_gap", "disk_traffic"}


def kills(study: Path, tiny: Path, rounds: int) -> list[dict[str, Any]]:
    """For each stage: `rounds` kills of fresh and half-done runs, and how many reruns gave the undisturbed result."""
    rows = []
    for name, words in commands(study, tiny).items():
        if name == "baseline":
            run(words)
            continue
        before = study.with_name("before")
        keep(study, before)
        whole = run(words)
        if whole.status:
            return [*rows, outcome("kill -9", name, rounds, [f"the undisturbed run failed: {whole.output[-600:]}"])]
        wanted = RESULTS[name](study)
        rows.append(kill_stage(name, words, study, before, whole, wanted, rounds))
        if name == "train":
            last = moments(rounds, whole.seconds * 0.3, 1)
            late = [0.7 * whole.seconds + moment for moment in last]
            rows.append(kill_stage("save", words, study, before, whole, wanted, rounds, late))
    return rows


def kill_stage(
    name: str, words: list[str], study: Path, before: Path, whole: Run, wanted: Any, rounds: int, when: Any = None
) -> dict[str, Any]:
    """Five kills in a row on the same half-done folder, then a run that may finish; repeated up to `rounds` kills."""
    faults = []
    result = RESULTS["train" if name == "save" else name]
    for number, moment in enumerate(when or moments(rounds, whole.seconds, 0)):
        if number % 5 == 0:
            keep(before, study)
        run(words, kill_after=moment)
        if number % 5 == 4 or number == rounds - 1:
            again = run(words)
            if again.status or again.fault:
                faults.append(f"after a kill at {moment:.2f} s: {again.fault or again.last}")
            elif (found := result(study)) != wanted:
                faults.append(f"after a kill at {moment:.2f} s: a different result: {difference(wanted, found)}")
    return outcome("kill -9", name, rounds, faults)


def keep(source: Path, copy: Path) -> None:
    shutil.rmtree(copy, ignore_errors=True)
    if source.exists():
        shutil.copytree(source, copy)


def outcome(attack: str, stage: str, rounds: int, faults: list[str], note: str = "") -> dict[str, Any]:
    """Print and return one row of the table."""
    row = {
        "attack": attack,
        "stage": stage,
        "rounds": rounds,
        "failed": len(faults),
        "faults": faults[:5],
        "note": note,
    }
    print(f"{attack:32} {stage:10} {rounds:6} rounds, {len(faults)} failed  {(faults or [note])[0][:600]}", flush=True)
    return row


def difference(one: Any, two: Any, path: str = "") -> str:
    """The path and values of the first difference between two results."""
    if isinstance(one, dict) and isinstance(two, dict):
        keys = [key for key in {**one, **two} if one.get(key) != two.get(key)]
        return difference(one.get(keys[0]), two.get(keys[0]), f"{path}/{keys[0]}") if keys else ""
    if isinstance(one, list) and isinstance(two, list):
        at = next((at for at, pair in enumerate(zip(one, two, strict=False)) if pair[0] != pair[1]), None)
        return f"{path}: {len(one)} / {len(two)}" if at is None else difference(one[at], two[at], f"{path}/{at}")
    return f"{path}: {str(one)[:80]} / {str(two)[:80]}"


def steady(value: Any) -> Any:
    """A JSON value without the keys that may differ between two equal runs."""
    if isinstance(value, dict):
        return {key: steady(inner) for key, inner in value.items() if key not in VOLATILE}
    return [steady(inner) for inner in value] if isinstance(value, list) else value


def json_of(path: Path) -> Any:
    return steady(json.loads(path.read_text(encoding="utf-8")))


def prepared(study: Path) -> Any:
    import pyarrow.parquet as pq

    tables = {name: pq.read_table(study / "data" / f"{name}.parquet").to_pylist() for name in ("train", "dev", "test")}
    return {"rows": tables, "report": json_of(study / "data" / "data_report.json")}


def trained(study: Path) -> Any:
    weights = study / "lora" / "adapter" / "adapter_model.safetensors"
    return {
        "weights": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "record": json_of(study / "lora" / "train.json"),
    }


def generated(study: Path) -> Any:
    return (study / "lora" / "generations.jsonl").read_text(encoding="utf-8")


def scored(study: Path) -> Any:
    return {file.parent.name: json_of(file) for file in [*study.glob("*/scores.json"), study / "comparison.json"]}


def reported(study: Path) -> Any:
    return json_of(study / "report" / "results.json")


RESULTS: dict[str, Callable[[Path], Any]] = {
    "prepare": prepared, "train": trained, "generate": generated, "score": scored, "report": reported,
}  # fmt: skip
