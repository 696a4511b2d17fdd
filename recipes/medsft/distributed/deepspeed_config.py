"""DeepSpeed's settings that follow from machine and model, put into its configuration before a weight is loaded.

accelerate's YAML names the ZeRO stage and the offload devices. Whatever it leaves out would be DeepSpeed's default,
made for other machines. What the user sets stays. Chosen once for an arm (engine.json), so that a checkpoint fits.
"""

import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from medsft.arguments import StudyArguments
from medsft.distributed import deepspeed_ops, offload_variants, waiting
from medsft.errors import DoesNotFit, UserError
from medsft.files import read_json, write_json
from medsft.hardware.specs import Hardware, machine
from medsft.models.parameter_counts import Sizes, sizes_of
from medsft.records import Json

if TYPE_CHECKING:
    from transformers import PreTrainedConfig
    from trl import SFTConfig

SWAPPED = 16  # bytes a parameter on the disk: float32 master, gradient and two moments
MOVED = 16  # bytes a parameter read, and as many written, by an optimizer step on NVMe
PINNED = 8  # bytes a parameter in pinned host memory: bf16 weights and gradients, float32 gradients
SHM_PER_PROCESS = 2**27  # bytes of /dev/shm that the processes of one machine talk through
MLOCK = 14  # Linux capability: pin memory without limit (capabilities(7), CAP_IPC_LOCK)


def zero_settings(sizes: Sizes, host_bytes: int, ranks: int) -> dict[str, int]:
    """Sizes of ZeRO's buffers, in parameters.

    The optimizer works through sub-groups, with two float32 copies of one at a time (five under NVMe): kept below 5 %
    of the host's memory, while DeepSpeed's 1e9 would take 20 GB. Buckets hold one layer: smaller ones cost launches,
    DeepSpeed's 5e8 is 1 GB of device memory and as much again where reduction overlaps.
    """
    layer = max(10**6, min(sizes.layer, 3 * 10**8))
    sub_group = max(10**7, min(host_bytes // (400 * ranks), sizes.parameters, 10**9))
    return {"sub_group_size": sub_group, "reduce_bucket_size": layer, "stage3_prefetch_bucket_size": layer}


def aio_settings(cpus: int, ranks: int) -> dict[str, int | bool]:
    """DeepSpeed's asynchronous I/O: blocks of 1 MiB (smaller tensors stay in memory), as many threads as leave half the
    cores to the optimizer."""
    threads = max(1, min(8, cpus // (2 * ranks)))
    return {"block_size": 2**20, "queue_depth": 32, "intra_op_parallelism": threads, "overlap_events": True}


def fit_to_machine(
    folder: Path, fingerprint: str, config: "SFTConfig", architecture: "PreTrainedConfig", study: StudyArguments
) -> None:
    """Complete the DeepSpeed configuration of the run in this arm folder; without DeepSpeed nothing happens.

    `fingerprint`: of the run; two runs do not share files on the disk of NVMe offload. Raises UserError where memory
    cannot be locked or /dev/shm is too small, DoesNotFit where the disk is.
    """
    plugin = config.deepspeed_plugin
    if plugin is None:
        if option := "bf16_states" if study.bf16_states else "offload_variant" if study.offload_variant else "":
            raise UserError(f"{option} is an option of DeepSpeed; launch with accelerate_configs/zero3_offload.yaml")
        return
    here, sizes = machine(folder), sizes_of(architecture)
    check_shared_memory(config.world_size)
    path = folder / "engine.json"

    def choose() -> dict[str, int]:
        if not path.exists():
            write_json(path, {"zero": zero_settings(sizes, here.host_bytes, config.world_size)})
        found: dict[str, int] = read_json(path)["zero"]
        return found

    with waiting.first(config.local_process_index == 0):
        if config.local_process_index == 0:
            deepspeed_ops.remove_stale_locks(Path(os.environ["TORCH_EXTENSIONS_DIR"]))
    settings = plugin.deepspeed_config
    zero = settings["zero_optimization"]
    for key, value in waiting.decided(config.process_index == 0, choose).items():
        zero.setdefault(key, value)
    zero.setdefault("overlap_comm", here.gpus > 0 and not config.use_cpu)  # on processors there is nothing to overlap
    pin(settings, sizes.parameters, here, on_gpu=here.gpus > 0 and not config.use_cpu)
    if states_on(config) == "nvme":
        settings.setdefault("aio", aio_settings(here.cpus, config.world_size))
        # accelerate's launcher does not pass its nvme_path on
        swap = Path(study.nvme_path) / fingerprint[:16]
        zero["offload_optimizer"]["nvme_path"] = str(swap)
        check_swap_space(swap, sizes.parameters, zero["sub_group_size"])
    if study.bf16_states:
        # The explicit optimizer is how DeepSpeed 0.19 keeps states in bf16; accelerate has no option for it.
        settings["bf16"] = {"enabled": True, "bf16_master_weights_and_grads": True, "bf16_optimizer_states": True}
        auto = dict.fromkeys(("lr", "betas", "eps", "weight_decay"), "auto")
        settings["optimizer"] = {"type": "AdamW", "params": {**auto, "fp32_optimizer_states": False}}
    if study.offload_variant:
        offload_variants.use(study.offload_variant, settings, config, here.gpus > 0 and not config.use_cpu)
    plugin.set_deepspeed_weakref()  # from_pretrained shards by a copy of it
    if config.should_save:
        chosen = {k: zero[k] for k in ("sub_group_size", "reduce_bucket_size")} | settings.get("aio", {})
        print("chosen for this machine: " + ", ".join(f"{k} {v}" for k, v in chosen.items()))


def pin(settings: Json, parameters: int, here: Hardware, on_gpu: bool) -> None:
    """Set whether host buffers are pinned, and by which allocator.

    torch rounds a pinned block up to a power of two and never returns it: 16 to 27 GB more for 7.24 billion
    parameters. DeepSpeed's own allocator takes what is asked for, where the process may lock so much memory. Without a
    GPU pinning has no use.
    """
    zero = settings["zero_optimization"]
    offloads = [o for o in (zero.get("offload_optimizer"), zero.get("offload_param")) if o and o["device"] != "none"]
    native = on_gpu and lockable() >= PINNED * parameters
    if offloads and native:
        os.environ.setdefault("DS_PIN_MEMORY_BACKEND", "native")
    for offload in offloads:
        offload.setdefault("pin_memory", native or (on_gpu and 2 * PINNED * parameters < here.host_bytes // 2))


def zero_optimization(config: "SFTConfig") -> Json:
    """The ZeRO settings in force, from the recipe or from `accelerate launch`; empty without DeepSpeed."""
    plugin = config.deepspeed_plugin
    return {} if plugin is None else plugin.deepspeed_config.get("zero_optimization", {})


def zero_stage(config: "SFTConfig") -> int:
    """0 without DeepSpeed."""
    return int(zero_optimization(config).get("stage", 0))


def offload_device(config: "SFTConfig", what: str) -> str:
    """The device that `what` ('optimizer' or 'param') is offloaded to: 'nvme', 'cpu', or 'none'."""
    return str((zero_optimization(config).get(f"offload_{what}") or {}).get("device", "none"))


def states_on(config: "SFTConfig") -> str:
    """The device that the optimizer's states are offloaded to; 'none' where they stay with the weights."""
    return offload_device(config, "optimizer")


def host_is_scarce(config: "SFTConfig") -> bool:
    """Whether states are on the host beside a GPU, or on the disk because the host has no room for them."""
    return states_on(config) == "nvme" or (states_on(config) == "cpu" and config.device.type != "cpu")


def bytes_of_a_save(config: "SFTConfig", base_model: str) -> int:
    """Host memory that a checkpoint takes: under ZeRO-3 the first process gathers all weights in 16 bits."""
    from medsft.models import loading

    if zero_stage(config) != 3 or config.save_strategy == "no":
        return 0
    return 2 * sizes_of(loading.load_config(base_model)).parameters


def check_swap_space(folder: Path, parameters: int, sub_group: int) -> None:
    """Raise DoesNotFit where the disk is too small, UserError where the I/O buffers cannot be locked in memory."""
    existing = next(p for p in [folder.absolute(), *folder.absolute().parents] if p.exists())
    left = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) if folder.exists() else 0
    free, needed = shutil.disk_usage(existing).free + left, SWAPPED * parameters
    if free < needed + 10**9:
        raise DoesNotFit(
            f"{existing}: NVMe offload keeps {needed / 1e9:.0f} GB there (16 bytes a parameter), {free / 1e9:.0f} GB "
            "are free; name another disk with --nvme_path"
        )
    buffers = 5 * 4 * min(sub_group, parameters)
    if lockable() < buffers:
        raise UserError(
            f"NVMe offload locks {buffers / 1e9:.1f} GB of buffers in memory, this process may lock "
            f"{lockable() / 1e6:.0f} MB; raise the limit: ulimit -l unlimited (in Docker: --ulimit memlock=-1)"
        )


def check_shared_memory(processes: int, shm: Path = Path("/dev/shm")) -> None:
    """Raise UserError where the processes of this machine could not talk to each other."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    if here < 2 or not shm.is_dir():
        return
    size = shutil.disk_usage(shm).total
    if size < here * SHM_PER_PROCESS:
        raise UserError(
            f"{shm} has {size / 1e6:.0f} MB, {here} processes need {here * SHM_PER_PROCESS / 1e6:.0f} MB; "
            "in Docker: --shm-size 1g (or --ipc host)"
        )


def lockable(status: Path = Path("/proc/self/status")) -> int:
    """Bytes of memory that this process may lock; 2**63 without a limit."""
    text = status.read_text(encoding="utf-8") if status.exists() else ""
    line = next((line for line in text.splitlines() if line.startswith("CapEff:")), "CapEff: 0")
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    free = int(line.split()[1], 16) >> MLOCK & 1 or limit == resource.RLIM_INFINITY
    return 2**63 if free else limit


@contextmanager
def swap_space(config: "SFTConfig", base_model: str) -> Iterator[None]:
    """Around training: measure the disk that the optimizer's states go to, and leave no file of them behind."""
    if states_on(config) != "nvme":
        yield
        return
    from medsft.hardware import disk_benchmark
    from medsft.models import loading

    parameters = sizes_of(loading.load_config(base_model)).parameters
    folder = Path(zero_optimization(config)["offload_optimizer"]["nvme_path"])
    if config.should_save:
        shutil.rmtree(folder, ignore_errors=True)  # left by a run that was killed
        folder.mkdir(parents=True)
        speed = disk_benchmark.measure(folder, MOVED * parameters)
        seconds = MOVED * parameters * (1 / speed.write + 1 / speed.read)
        print(
            f"disk of {folder.parent}: {speed.write / 1e9:.2f} GB/s written, {speed.read / 1e9:.2f} GB/s read; "
            f"the optimizer's {MOVED * parameters / 1e9:.1f} GB each way: about {seconds:.1f} s a step"
        )
    try:
        yield
    finally:
        if config.should_save:
            shutil.rmtree(folder, ignore_errors=True)
