"""Room on the disk for what a run downloads and saves, checked before a weight is loaded."""

import shutil
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.constants import HF_HUB_CACHE
from transformers.trainer_utils import SaveStrategy

from medsft.errors import DoesNotFit
from medsft.memory.planner import checkpoint_bytes, format_gb
from medsft.memory.strategies import STRATEGIES
from medsft.models import loading
from medsft.models.parameter_counts import count_lora, count_parameters
from medsft.training.micro_batch import Run

CACHE = Path(HF_HUB_CACHE)


def check_disk(folder: Path, run: Run, keeps: bool) -> None:
    """Raise DoesNotFit where the disk of the arm's `folder`, or of the hub's cache, is too small for the run.

    `keeps`: the trained weights are saved at the end. One checkpoint more than save_total_limit is there while the
    newest is written; those of an interrupted run count as room.
    """
    config, strategy = run.config, STRATEGIES[run.strategy]
    architecture = loading.load_config(run.base_model)
    total = count_parameters(architecture)
    trained = total if strategy.trains_all else count_lora(architecture, run.step["lora_r"])
    saves = SaveStrategy(config.save_strategy) != SaveStrategy.NO
    copies = (config.save_total_limit or 0) + 1 if saves else 0
    needed = copies * checkpoint_bytes(strategy, trained) + (2 * trained if keeps else 0)
    there = sum(file.stat().st_size for file in folder.glob("checkpoint-*/**/*") if file.is_file())
    free = shutil.disk_usage(folder).free + there
    if needed > free:
        raise DoesNotFit(
            f"{folder}: {copies} checkpoints and the trained weights take {format_gb(needed)} of disk, "
            f"{format_gb(free)} are free; give --study_dir on another disk, --save_total_limit 1, or --save_strategy no"
        )
    if _is_downloaded(run.base_model):
        return
    free = shutil.disk_usage(next(p for p in [CACHE, *CACHE.parents] if p.exists())).free
    if 2 * total > free:
        raise DoesNotFit(
            f"{run.base_model} is a download of {format_gb(2 * total)}, and {CACHE} has {format_gb(free)} free; set "
            "HF_HOME to a folder on another disk"
        )


def _is_downloaded(base_model: str) -> bool:
    """Whether the weights are in a folder of this machine, or in the hub's cache."""
    if Path(loading.resolve(base_model)).is_dir():
        return True
    files = ("model.safetensors.index.json", "model.safetensors")
    return any(isinstance(try_to_load_from_cache(base_model, file), str) for file in files)
