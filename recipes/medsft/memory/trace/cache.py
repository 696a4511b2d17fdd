"""Traces kept on disk by what decides them, so that a second plan or the preflight check of a run costs nothing.

Steps of one device are traced in this process, DeepSpeed's engine in others beside it.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from medsft.errors import UserError
from medsft.files import fingerprint, read_json, write_json
from medsft.hub import cache_folder
from medsft.records import Json
from medsft.versions import code_fingerprint, versions

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from medsft.memory.step_config import EngineConfig, EnginePeaks, StepConfig
    from medsft.memory.trace.trackers import Peaks

# a change of their code makes kept traces worthless
ROOMS = ("memory/trace", "memory/step_config.py", "models/answer_loss.py", "models/flash_adamw.py",
         "models/lora_linear.py", "models/meta.py", "models/optimizer_in_backward.py")  # fmt: skip
# What a launcher sets for its children must not reach the dry run, which has ranks of its own.
LAUNCHER = ("ACCELERATE_", "FSDP_", "TORCHELASTIC_", "WORLD_SIZE", "RANK", "LOCAL_", "MASTER_", "GROUP_")


def traced(
    config: "PreTrainedConfig", uniform: bool, steps: "list[StepConfig]", engines: "list[EngineConfig]"
) -> "tuple[list[Peaks | UserError], list[EnginePeaks | UserError]]":
    """(peaks of each step, peaks of each of DeepSpeed's engines), from the cache where they are there.

    In place of one that cannot be traced or run it has the error: the others of a plan do not depend on it.
    """
    with traced_beside([(config, engine) for engine in engines]) as of_engines:
        of_steps = [_or_error(config, uniform, step) for step in steps]
    return of_steps, of_engines


def traced_steps(config: "PreTrainedConfig", uniform: bool, steps: "list[StepConfig]") -> "list[Peaks]":
    """The peaks of each step. Raises UserError where one cannot be traced."""
    return [_traced_step(config, uniform, step) for step in steps]


def _traced_step(config: "PreTrainedConfig", uniform: bool, step: "StepConfig") -> "Peaks":
    file = _file("step", config, asdict(step))
    if not file.is_file():
        from medsft.memory.trace.step import trace

        _keep(file, trace(config, step, uniform))
    peaks: Peaks = read_json(file)
    return peaks


def _or_error(config: "PreTrainedConfig", uniform: bool, step: "StepConfig") -> "Peaks | UserError":
    try:
        return _traced_step(config, uniform, step)
    except UserError as error:
        return error


@contextmanager
def traced_beside(
    engines: "list[tuple[PreTrainedConfig, EngineConfig]]",
) -> "Iterator[list[EnginePeaks | UserError]]":
    """Run DeepSpeed's engines in other processes while the block runs; their peaks, or errors, are there at its end."""
    files = [_file("zero", config, engine) for config, engine in engines]
    missing = {file: request for file, request in zip(files, engines, strict=True) if not file.is_file()}
    requests: list[EngineConfig] = [{"config": _values(config), **engine} for config, engine in missing.values()]
    beside = _start(requests) if requests else None
    results: list[EnginePeaks | UserError] = []
    try:
        yield results
        failed: dict[Path, UserError] = {}
        for file, result in zip(missing, _finish(beside, requests) if beside else [], strict=True):
            if isinstance(result, UserError):
                failed[file] = result
            else:
                _keep(file, result)
        results += [failed[file] if file in failed else read_json(file) for file in files]
    finally:
        if beside and beside.poll() is None:  # with its own children, which would wait for work for ever
            os.killpg(beside.pid, signal.SIGKILL)
            beside.wait()


def _values(config: "PreTrainedConfig") -> Json:
    return {name: value for name, value in config.to_dict().items() if name != "_name_or_path"}  # the same anywhere


def _file(kind: str, config: "PreTrainedConfig", what: object) -> Path:
    key = fingerprint(_values(config), what, code_fingerprint(*ROOMS), versions())
    return cache_folder() / "traces" / f"{kind}-{key}.json"


def _keep(file: Path, result: "Peaks | EnginePeaks") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, result)


def _start(requests: "list[EngineConfig]") -> "subprocess.Popen[str]":
    environment = {k: v for k, v in os.environ.items() if not k.startswith(LAUNCHER)} | {"OMP_NUM_THREADS": "1"}
    here = str(Path(__file__).resolve().parents[3])
    environment["PYTHONPATH"] = os.pathsep.join([here, *filter(None, [environment.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "medsft.memory.trace.zero", json.dumps(requests)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, text=True, stdout=pipe, stderr=pipe, process_group=0)


def _finish(process: "subprocess.Popen[str]", requests: "list[EngineConfig]") -> "list[EnginePeaks | UserError]":
    out, err = process.communicate()
    if process.returncode:
        reason = (err.strip().splitlines() or ["no message"])[-1]
        results: list[EnginePeaks | str] = [reason] * len(requests)
    else:
        results = json.loads(out.strip().splitlines()[-1])
    pairs = zip(requests, results, strict=True)
    return [_refused(request, found) if isinstance(found, str) else found for request, found in pairs]


def _refused(request: "EngineConfig", reason: str) -> UserError:
    model = request["config"]["model_type"]
    return UserError(f"DeepSpeed's engine cannot be tried out for '{model}' ({reason[:300]})")
