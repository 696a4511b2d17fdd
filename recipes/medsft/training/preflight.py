"""The preflight check of the machine, before torch is imported: is what the recipe needs here?"""

import os
import shutil
from pathlib import Path

from medsft.config import config_path, is_on, peek, read_config
from medsft.data.reading.sources import local_files
from medsft.distributed import deepspeed_ops
from medsft.errors import DoesNotFit, UserError
from medsft.hardware.cgroups import host_memory
from medsft.hardware.gpus import largest_gpu
from medsft.hardware.specs import Hardware, machine
from medsft.hub import hub_reachable
from medsft.memory import lower_bound
from medsft.models.loading import resolve

WORKS_HERE = "what works on this machine: make demo"
TO_PLAN = 1_200_000_000  # bytes: torch, TRL and the first trace of a step, measured in a control group of its own


def check_machine(argv: list[str]) -> None:
    """Raise UserError or DoesNotFit within seconds where the model, the data or the device is not available here."""
    if (free := host_memory()[1]) < TO_PLAN:  # else the kernel kills the process without a message
        raise DoesNotFit(
            f"{free / 1e9:.1f} GB of host memory are free, and libraries and plan alone take {TO_PLAN / 1e9} GB; "
            "end other programs, or raise the container's limit"
        )
    name = str(peek("model_name_or_path", "", argv))
    if name and not name.startswith("embedded/"):
        resolve(name)  # a mistyped folder is no id, and the hub's library raises an error of its own for it
    here, on_cpu = machine("."), _on_cpu(argv)
    gpus = here.gpus
    if on_cpu:  # DeepSpeed and torch would else put weights on a GPU that is there, and inputs not
        os.environ |= {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
    elif gpus and peek("strategy", "", argv) == "full_nvme" and not deepspeed_ops.cuda_toolkit():
        raise UserError(deepspeed_ops.NO_TOOLKIT)
    elif gpus:
        settle_environment(here)
    if gpus > 1 and not on_cpu and "LOCAL_RANK" not in os.environ:
        _take_one_gpu(gpus)
    no_gpu = not on_cpu and gpus == 0
    from_hub = [name] if not (_is_local(name) or _in_cache(name)) else []
    from_hub += [name for name in _unprepared_data(argv) if local_files(name) is None]
    silent = "is there and names none: run it to see why" if shutil.which("nvidia-smi") else "is not there"
    missing = [f"an NVIDIA GPU (nvidia-smi {silent})"] if no_gpu else []
    if from_hub and not hub_reachable():
        missing.append(f"{' and '.join(from_hub)} (not on this machine, and the hub cannot be reached)")
    if not missing:
        lower_bound.check(argv, here.without_gpus() if on_cpu else here)
        return
    message = f"{name or 'this recipe'} needs {'; '.join(missing)}; {WORKS_HERE}"
    raise DoesNotFit(message) if no_gpu else UserError(message)


def settle_environment(here: Hardware) -> None:
    """Set what torch and OpenMP read once, as they are loaded: blocks that grow, and a share of the cores each.

    torch's launcher gives each of several processes one thread, with which an optimizer on the host is many times
    slower.
    """
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    launched = "TORCHELASTIC_RUN_ID" in os.environ
    if launched and os.environ.get("OMP_NUM_THREADS") == "1":
        os.environ["OMP_NUM_THREADS"] = str(max(1, here.cpus // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def _take_one_gpu(gpus: int) -> None:
    """Keep to one GPU where accelerate was told to start one process (single_gpu.yaml): the first of those that
    CUDA_VISIBLE_DEVICES names, without it the one with the most memory.

    transformers would spread each batch over all of them. Raises UserError where there was no launcher at all.
    """
    if "ACCELERATE_MIXED_PRECISION" not in os.environ:  # set by accelerate's launcher for any number of processes
        raise UserError(
            f"{gpus} GPUs are visible and no launcher was used; start with: accelerate launch --num_processes {gpus} "
            "recipes/..., or choose one with CUDA_VISIBLE_DEVICES=0"
        )
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is None:
        os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # CUDA would number them by speed, nvidia-smi numbers by place
    one = str(largest_gpu()) if named is None else named.split(",")[0].strip()
    os.environ["CUDA_VISIBLE_DEVICES"] = one
    print(f"{gpus} GPUs are visible, and one process was launched: it takes GPU {one}")


def _unprepared_data(argv: list[str]) -> list[str]:
    """The sources that the split of this study would be prepared from; [] where it is prepared already."""
    study = Path(str(peek("study_dir", "runs/mistral_7b", argv)))
    if (study / "data" / "data_report.json").exists():
        return []
    beside = config_path(argv).parent / "data.yaml"
    named = read_config(["--config", str(beside)]).get("data", []) if beside.exists() else []
    return list(named) if isinstance(named, list) else [str(named)]


def _on_cpu(argv: list[str]) -> bool:
    return is_on("use_cpu", argv) or os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"


def _is_local(name: str) -> bool:
    return name.startswith("embedded/") or Path(name).expanduser().is_dir()


def _in_cache(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, "config.json"), str)
