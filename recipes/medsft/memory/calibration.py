"""What no trace sees (CUDA context, allocator slack, the process itself): defaults, and a machine's own numbers.

A short run on a machine replaces the defaults there: `calibrate` keeps what was measured, `of_machine` reads it.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypedDict

from medsft.errors import UserError
from medsft.files import read_json, write_json
from medsft.hardware.specs import Hardware
from medsft.hub import cache_folder
from medsft.records import Memory, TrainRecord

GAP = 0.10  # a prediction this far off is worth a report
ALLOWANCE = 2_000_000_000  # bytes: what a plan may be above the run, as its process and context are allowances


@dataclass(frozen=True)
class Corrections:
    """`context_bytes`: CUDA context and cuBLAS and NCCL workspaces. `slack`: what the allocator reserves beyond what is
    allocated, as a share. `process_bytes`: host memory of Python, its libraries and data workers, for each process.
    """

    context_bytes: int
    slack: float
    process_bytes: int


# Context: 0.5 to 1.5 GB, 0.81 on an H200. Slack of adapters: reserved over allocated of 28 published runs (mean 1.02,
# largest 1.08), 1.01 to 1.02 in four runs on an H200. The process: 1.9 to 2.3 GB in six runs there, without workers.
WITH_GPU = Corrections(1_000_000_000, 0.03, 3_000_000_000)
FULL = 0.08  # slack of full fine-tuning: 38.87 GB reserved of 36.15 traced in a published run; 1 to 2 % on an H200
# Sharding engines gather and release blocks of many sizes: 7.07 GB reserved of 4.81 allocated by ZeRO-3 offload, 5.10
# of 3.82 by FSDP2, both of four layers of Mistral-7B on an H200; the process was 2 GB larger than without them.
ENGINE, ENGINE_PROCESS = 0.50, 2_000_000_000
NCCL = 500_000_000  # buffers of a communicator on each GPU, an allowance: not measured by this project
# Measured here on two cores: 0.6 to 0.9 GB after all imports; resident memory beyond the traced peak of 17 runs of the
# embedded model in one process 26 to 92 % of it, median 49 %, because freed memory stays (`hardware.malloc`) and
# fragments, more so the more the rows differ in length: the same LoRA run took 3.13 GB instead of 3.84 GB where it was
# returned, which is the trace to 1 %. No single number fits all runs: calibrate with a run on the same data.
ON_CPU = Corrections(0, 0.50, 1_000_000_000)
FEW = 0.40  # slack of one or two rows at a time, which fragment less: 15 to 60 % in 8 float32 runs
RETURNED = 0.10  # slack where freed memory goes back, as with states on NVMe: 5 to 15 %


def of_machine(hardware: Hardware, micro_batch: int = 4, trains_all: bool = False) -> Corrections:
    """The corrections measured on machines with this GPU (or with none); the defaults where nothing was.

    Slack is one number for adapters and one for full fine-tuning (`trains_all`); context and process are common.
    """
    default = WITH_GPU if hardware.gpus else ON_CPU
    if hardware.gpus and trains_all:
        default = replace(default, slack=FULL)
    elif not hardware.gpus and micro_batch <= 2:
        default = replace(default, slack=FEW)
    of_kind, of_other = _file(hardware, trains_all), _file(hardware, not trains_all)
    if of_kind.is_file():
        return Corrections(**read_json(of_kind))
    return replace(Corrections(**read_json(of_other)), slack=default.slack) if of_other.is_file() else default


class DevicePeak(TypedDict):
    """Bytes at the peak of a run: `reserved` by torch, `used` by the whole process as nvidia-smi counts."""

    reserved: int
    used: int


class HostPeak(TypedDict):
    """Resident bytes of a process: at its peak, and before the model was made."""

    resident: int
    before: int


def calibrate(
    hardware: Hardware, traced: int, device: DevicePeak | None, host: HostPeak, trains_all: bool = False
) -> Corrections:
    """Keep this machine's corrections from one short run, and return them.

    `traced`: bytes at the traced peak of the same step. `device` is None without a GPU. `trains_all`: of every weight.
    """
    if device:
        context, slack = device["used"] - device["reserved"], device["reserved"] / traced - 1
        process = host["resident"]
    else:
        context, process = 0, host["before"]
        slack = (host["resident"] - host["before"]) / traced - 1
    found = Corrections(max(0, context), round(max(0.0, slack), 4), process)
    file = _file(hardware, trains_all)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, asdict(found))
    return found


def why_not(record: TrainRecord, on_gpu: bool) -> str:
    """Why nothing can be learned from a run, on a machine whose runs are `on_gpu`; '' where something can."""
    predicted, measured = record.get("predicted_memory"), record.get("peak_memory")
    complete = predicted and measured and "traced_bytes" in predicted and "process_bytes" in predicted
    if not measured or not complete or "reserved_bytes" not in measured:
        return "this train.json is of an older version: train again, five steps are enough (--max_steps 5)"
    if record["distributed"] in ("DEEPSPEED", "FSDP") or record["processes"] > 1:
        return "calibrate with a run in one process without offload, such as an arm of sft_lora.py"
    if on_gpu and "paged" in str(record["settings"].get("optim", "")):
        return "a paged optimizer's states count as context; calibrate with a run whose optim is not paged"
    if bool(measured["device_bytes"]) != on_gpu:
        return "this train.json is of another machine, or of a run on the processor beside a GPU"
    return ""


def from_record(record: TrainRecord, hardware: Hardware) -> Corrections:
    """`calibrate` with the train.json of a run on this machine. Raises UserError where it lacks what is needed."""
    if reason := why_not(record, bool(hardware.gpus)):
        raise UserError(reason)
    predicted, measured = record["predicted_memory"], record["peak_memory"]
    device: DevicePeak = {"reserved": measured["reserved_bytes"], "used": measured["device_bytes"]}
    host: HostPeak = {"resident": measured["host_bytes"], "before": predicted["process_bytes"]}
    trains_all = record["trainable_parameters"] == record["total_parameters"]
    return calibrate(hardware, predicted["traced_bytes"], device if hardware.gpus else None, host, trains_all)


def compare(predicted: Memory, measured: Memory) -> tuple[dict[str, float], str]:
    """({key: measured over predicted, minus one}, a warning or '').

    The arguments are predicted_memory and peak_memory of train.json. What is 0 on either side (the device of a
    machine without a GPU) is left out.
    """
    pairs = {
        "device_bytes": (predicted["device_bytes"], measured["device_bytes"]),
        "host_bytes": (predicted["host_bytes"], measured["host_bytes"]),
    }
    gaps = {key: found / planned - 1 for key, (planned, found) in pairs.items() if planned and found}
    far = {
        key: gap for key, gap in gaps.items() if gap > GAP or (gap < -GAP and pairs[key][0] - pairs[key][1] > ALLOWANCE)
    }
    if not far:
        return gaps, ""
    missed = " and ".join(f"{key.removesuffix('_bytes')} memory by {gap:+.0%}" for key, gap in far.items())
    return gaps, f"the memory plan missed the {missed}; please report it with plan.json and train.json attached"


def _file(hardware: Hardware, trains_all: bool) -> Path:
    name = hardware.gpu.lower().replace("/", "-").replace(" ", "-") if hardware.gpus else "none"
    return cache_folder() / "calibration" / f"{name}{'-full' if trains_all else ''}.json"
