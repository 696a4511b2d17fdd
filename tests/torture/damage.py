"""Torn, cut and bit-flipped files, missing input, a clock set back: reported or harmless, never a wrong result."""

import os
import random
import shutil
import time
from pathlib import Path
from typing import Any

from kills import RESULTS, keep, outcome
from stage import commands, run

# what each stage reads from the stages before it
READ_BY = {
    "train": ["data/train.parquet", "data/dev.parquet", "data/data_report.json"],
    "generate": ["data/test.parquet", "lora/adapter/adapter_model.safetensors", "lora/adapter/adapter_config.json",
                 "lora/adapter/tokenizer.json", "lora/train.json"],
    "score": ["lora/generations.jsonl", "data/train.parquet"],
    "report": ["lora/scores.json", "comparison.json", "data/data_report.json", "lora/train.json"],
}  # fmt: skip


def damaged_files(study: Path, tiny: Path, rounds: int) -> list[dict[str, Any]]:
    """`study` is finished. Each file that a stage reads is cut, bit-flipped or torn; then the stage runs again."""
    whole, rows = study.with_name("whole"), []
    keep(study, whole)
    for name, files in READ_BY.items():
        keep(whole, study)
        wanted, faults, known = RESULTS[name](study), [], 0
        draw = random.Random(name)
        for number in range(rounds):
            file = files[number % len(files)]
            keep(whole, study)
            _forget(study, name)
            how = damage(study / file, draw)
            done = run(commands(study, tiny)[name])
            if done.fault:
                faults.append(f"{file} {how}: {done.fault}")
            elif done.status:
                known += 1
                if Path(file).name not in done.output and Path(file).parent.name not in done.output:
                    faults.append(f"{file} {how}: not named in '{done.last[:200]}'")
            elif RESULTS[name](study) != wanted:
                faults.append(f"{file} {how}: not noticed, and the result differs")
        rows.append(outcome("torn or bit-flipped file", name, rounds, faults, f"{known} named, the others harmless"))
    keep(whole, study)
    return rows


def damaged_checkpoints(study: Path, tiny: Path, rounds: int) -> dict[str, Any]:
    """A run stopped after its last checkpoint, which has a damaged file: the checkpoint before it is used."""
    words = [*commands(study, tiny)["train"], "--save_total_limit", "3", "--arm", "torn"]
    draw, faults, stopped = random.Random(0), [], study.with_name("stopped")
    if done := run(words).fault:
        return outcome("damaged checkpoint", "train", 0, [done])
    wanted = (study / "torn" / "adapter" / "adapter_model.safetensors").read_bytes()
    keep(study / "torn", stopped)
    for _ in range(rounds):
        keep(stopped, study / "torn")
        shutil.rmtree(study / "torn" / "adapter")
        (study / "torn" / "train.json").unlink()
        files = sorted(path for path in (study / "torn" / "checkpoint-4").iterdir() if path.is_file())
        file = draw.choice(files)
        how = damage(file, draw)
        done = run(words)
        if done.fault or done.status:
            faults.append(f"{file.name} {how}: {done.fault or done.last}")
        elif "damaged" not in done.output and "not finished" not in done.output and file.name != "manifest.json":
            faults.append(f"{file.name} {how}: not noticed")
        elif (study / "torn" / "adapter" / "adapter_model.safetensors").read_bytes() != wanted:
            faults.append(f"{file.name} {how}: other weights")
    shutil.rmtree(study / "torn")
    return outcome("damaged checkpoint", "train", rounds, faults, "the one before it was used, to the same weights")


def vanished(study: Path, tiny: Path) -> dict[str, Any]:
    """An input is missing when a stage starts: a file, a folder, the base model, the user's data."""
    gone = [("train", "data"), ("train", "data/train.parquet"), ("generate", "lora/adapter"), ("generate", "data"),
            ("generate", "lora/train.json"), ("score", "lora/generations.jsonl"), ("report", "comparison.json"),
            ("score", "data")]  # fmt: skip
    whole, faults = study.with_name("whole"), []
    keep(study, whole)
    for name, path in gone:
        keep(whole, study)
        _forget(study, name)
        shutil.rmtree(study / path) if (study / path).is_dir() else (study / path).unlink()
        done = run(commands(study, tiny)[name])
        if done.fault:
            faults.append(f"{name} without {path}: {done.fault}")
    keep(whole, study)
    done = run(["prepare_data.py", "--data", str(study / "nowhere.jsonl"), "--study_dir", str(study / "new")])
    faults += [done.fault or "vanished data: no error"] if done.status != 2 else []
    done = run([*commands(study / "new", study / "no_model")["prepare"]])
    faults += [done.fault or "vanished model: no error"] if done.status != 2 else []
    return outcome("vanished input", "all", len(gone) + 2, faults)


def clock_set_back(study: Path, tiny: Path) -> dict[str, Any]:
    """Every file of the study is dated tomorrow: finished stages stay finished, unfinished ones continue."""
    faults = []
    tomorrow = time.time() + 86_400
    for path in study.rglob("*"):
        os.utime(path, (tomorrow, tomorrow))
    for name, words in commands(study, tiny).items():
        done = run(words)
        if done.fault or done.status or "already done" not in done.output:
            faults.append(f"{name}: {done.fault or done.last}")
    words = [*commands(study, tiny)["train"], "--arm", "back"]
    half = run(words, kill_after=run([*words[:-1], "measure"]).seconds * 0.7)
    for path in study.rglob("*"):
        os.utime(path, (tomorrow, tomorrow))
    done = run(words)
    one, two = (study / arm / "adapter" / "adapter_model.safetensors" for arm in ("lora", "back"))
    if done.fault or done.status:
        faults.append(f"train, killed after {half.seconds:.1f} s: {done.fault or done.last}")
    elif one.read_bytes() != two.read_bytes():
        faults.append("train: other weights")
    for arm in ("back", "measure"):
        shutil.rmtree(study / arm, ignore_errors=True)
    return outcome("clock set back a day", "all", 7, faults)


def damage(path: Path, draw: random.Random) -> str:
    """Cut the file, flip one bit, or zero a block as a torn write does; returns what was done and where."""
    content = bytearray(path.read_bytes())
    position = draw.randrange(len(content))
    records = path.suffix == ".json" and "tokenizer" not in path.name and "adapter" not in path.name
    # a record has no checksum, so a changed digit cannot be noticed
    how = draw.choice(["cut", "torn", *([] if records else ["bit-flipped"])])
    if how == "cut":
        content = content[:position]
    elif how == "bit-flipped":
        content[position] ^= 1 << draw.randrange(8)
    else:
        content[position : position + 512] = bytes(len(content[position : position + 512]))
    path.write_bytes(bytes(content))
    return f"{how} at byte {position}"


def _forget(study: Path, name: str) -> None:
    """Delete what the stage and those after it wrote, so that it runs again."""
    later = list(READ_BY)[list(READ_BY).index(name) :]
    if "train" in later:
        shutil.rmtree(study / "lora", ignore_errors=True)
    if "generate" in later:
        for file in ("generations.jsonl", "generation.json", "scores.json", "scores_per_example.jsonl"):
            (study / "lora" / file).unlink(missing_ok=True)
    if "score" in later:
        for path in (*study.glob("*/scores*.json*"), study / "comparison.json"):
            path.unlink(missing_ok=True)
    shutil.rmtree(study / "report", ignore_errors=True)
