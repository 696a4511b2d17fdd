"""Random rows and configurations: never a traceback, a hang or a row that is not accounted for."""

import json
import math
import random
import sys
import time
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from kills import outcome
from stage import run

from retries import note_retry

TEXT = st.text(max_size=60) | st.sampled_from(
    ["", " ", "\x00", "\ud800", "\u202e", "<|im_end|>", "</s>[INST]", "a" * 9000]
)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=6,
)
COLUMN = st.sampled_from(
    ["patient_message", "doctor_response", "dialogue_context", "messages", "utterances", "input", "output", "id",
     "instruction", "conversations", "Patient", "Doctor", "description", "question", "answer", "text", "prompt"]
)  # fmt: skip
TURN = st.fixed_dictionaries(
    {"role": VALUE | st.sampled_from(["user", "assistant", "system"]), "content": VALUE | TEXT}
)
ROW = st.dictionaries(COLUMN, VALUE | TEXT | st.lists(TURN, max_size=5), max_size=6) | VALUE
SLOW = 20  # seconds for one configuration
GOOD = "My {} hurts since yesterday, what could it be and what should I do about it?"


def fuzzed_rows(folder: Path, tiny: Path, count: int) -> list[dict[str, Any]]:
    """`count` random rows through prepare_data.py, 200 to a file with 100 good ones."""
    drawn: list[str] = []

    @seed(0)
    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(ROW)
    def draw(row: Any) -> None:
        drawn.append(json.dumps(row))

    draw()
    faults, refused, chance = [], 0, random.Random(0)
    good = [
        {"patient_message": GOOD.format(f"left knee {n}"), "doctor_response": f"Rest it for {n} days."}
        for n in range(100)
    ]
    for start in range(0, len(drawn), 200):
        lines = [*drawn[start : start + 200], *map(json.dumps, good)]
        chance.shuffle(lines)
        source, study = folder / "fuzzed.jsonl", folder / f"fuzzed_{start}"
        source.write_text("\n".join(lines) + "\n", encoding="utf-8")
        words = ["prepare_data.py", "--data", str(source), "--study_dir", str(study), "--model_name_or_path", str(tiny)]
        done = run([*words, "--max_rejected", "1", "--workers", "1"])
        refused += done.status == 2
        if done.fault:
            faults.append(f"rows {start} to {start + 199}: {done.fault}")
        elif not done.status:
            report = json.loads((study / "data" / "data_report.json").read_text())
            lost = report["rows_read"] - report["rows_kept"] - sum(report["dropped"].values())
            if lost or report["rows_read"] != len(lines):
                faults.append(f"rows {start} to {start + 199}: {lost} of {report['rows_read']} rows not accounted for")
    return [outcome("fuzzed rows", "prepare", len(drawn), faults, f"{refused} files refused with a reason")]


def fuzzed_configs(folder: Path, count: int) -> list[dict[str, Any]]:
    """`count` random configurations through the parser and the checks of every script's options."""
    from medsft import arguments, config, errors
    from medsft.data import options
    from medsft.evaluation import scoring as score_checks
    from medsft.inference import generation

    kinds = [kind for kind in vars(arguments).values() if is_dataclass(kind)]
    checks: dict[str, Any] = {
        "DataArguments": options.check_options, "GenerateArguments": generation.check, 
        "ScoreArguments": score_checks.check_options,
    }  # fmt: skip
    names = sorted({field.name for kind in kinds for field in fields(kind)})
    key = st.sampled_from(names) | st.text(max_size=12)
    plain = VALUE | st.sampled_from([-1, 0, 1, 10**12, math.nan, math.inf, "true", "1e3", "auto", "/", "~", "."])
    faults: list[str] = []
    path = folder / "fuzzed.yaml"

    @seed(0)
    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(kinds), st.dictionaries(key, plain, max_size=6), st.binary(max_size=4))
    def draw(kind: Any, values: dict[str, Any], noise: bytes) -> None:
        path.write_bytes(json.dumps(values).encode("utf-8", "surrogatepass") + (noise if len(noise) == 4 else b""))
        for attempt in range(2):
            started = time.monotonic()
            try:
                (parsed,) = config.parse([kind], argv=["--config", str(path)])
                checks.get(kind.__name__, lambda _: None)(parsed)
            except errors.UserError:
                pass
            except BaseException as error:
                faults.append(f"{kind.__name__} {json.dumps(values)[:150]}: {type(error).__name__}: {str(error)[:150]}")
                return
            seconds = time.monotonic() - started  # milliseconds, but for a machine that is busy with something else
            if seconds < SLOW:
                return
            if attempt == 0:
                note_retry("fuzzed configurations", f"{kind.__name__} took {seconds:.0f} s")
        faults.append(f"{kind.__name__} {json.dumps(values)[:150]}: {seconds:.0f} s, twice")

    sys.stdout.flush()
    draw()
    return [outcome("fuzzed configurations", "all", count, faults)]
