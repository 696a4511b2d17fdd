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
) -> "tuple[list[Peaks], list[EnginePeaks]]":
    """(peaks of each step, peaks of each of DeepSpeed's engines), from the cache where they are there.

    Raises UserError where a step cannot be traced or the engine cannot be run.
    """
    step_files = [_file("step", config, asdict(step)) for step in steps]
    with traced_beside([(config, engine) for engine in engines]) as engine_files:
        for file, step in zip(step_files, steps, strict=True):
            if not file.is_file():
                from medsft.memory.trace.step import trace

                _keep(file, trace(config, step, uniform))
    return [read_json(file) for file in step_files], [read_json(file) for file in engine_files]


@contextmanager
def traced_beside(engines: "list[tuple[PreTrainedConfig, EngineConfig]]") -> Iterator[list[Path]]:
    """Run DeepSpeed's engines in other processes while the block runs; their peaks are in the files at its end."""
    files = [_file("zero", config, engine) for config, engine in engines]
    missing = {file: request for file, request in zip(files, engines, strict=True) if not file.is_file()}
    requests: list[EngineConfig] = [{"config": _values(config), **engine} for config, engine in missing.values()]
    beside = _start(requests) if requests else None
    try:
        yield files
        for file, result in zip(missing, _finish(beside, requests) if beside else [], strict=True):
            _keep(file, result)
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


def _finish(process: "subprocess.Popen[str]", requests: "list[EngineConfig]") -> "list[EnginePeaks]":
    out, err = process.communicate()
    if process.returncode:
        reason = (err.strip().splitlines() or ["no message"])[-1]
        models = " and ".join(sorted({request["config"]["model_type"] for request in requests}))
        raise UserError(f"DeepSpeed's engine cannot be tried out for '{models}' ({reason[:300]})")
    results: list[EnginePeaks] = json.loads(out.strip().splitlines()[-1])
    return results
