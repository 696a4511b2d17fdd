"""The folder of one arm inside a study: which run it holds, whether it is done, and that only one run writes to it."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import yaml
from filelock import FileLock, Timeout

from medsft.arguments import DataArguments, StudyArguments
from medsft.config import config_path, parse
from medsft.data.prepare import prepare
from medsft.distributed import waiting
from medsft.errors import UserError
from medsft.files import fingerprint, read_json, write_text
from medsft.records import Json
from medsft.versions import versions

if TYPE_CHECKING:
    from trl import SFTConfig

STAMP = "fingerprint"
# Settings that may differ between two starts of one run, because the result does not depend on them.
IRRELEVANT: tuple[str, ...] = (
    "study_dir",
    "disable_tqdm",
    "report_to",
    "host_reserve_gb",
    "host_floor_gb",
    "nvme_path",
    "tuned",
    "eval_on_start",  # one loss more in the history
    "save_total_limit",
    "activation_checkpointing",  # the same numbers by other means, as the three below
    "activation_checkpointing_kwargs",
    "auto_speed",
    "auto_batch",
)
OF_A_STEP = ("rows_per_step", "per_device_train_batch_size", "gradient_accumulation_steps")  # their product counts
SAVES = ("save_strategy", "save_steps")  # count where the best checkpoint is kept


class ArmFolder(NamedTuple):
    """`fingerprint`: of everything that the result depends on; `settings`: what the user set."""

    folder: Path
    fingerprint: str
    settings: Json
    done: bool
    lock: FileLock | None = None  # held until the process ends


def ensure_split(study: StudyArguments, config: "SFTConfig", argv: list[str]) -> None:
    """Prepare the study's split from the recipe's data YAML, unless it is prepared."""
    with waiting.first(config.local_process_index == 0):  # on each machine, as its folder may be its own
        if (Path(study.study_dir) / "data" / "data_report.json").exists():
            return
        beside = config_path(argv).parent / study.data_config
        if not beside.exists():
            raise UserError(
                f"{study.study_dir}/data: not prepared; run: "
                f"python recipes/prepare_data.py --study_dir {study.study_dir}"
            )
        flag = "--model_name_or_path"  # whose tokens are counted
        model = argv[argv.index(flag) : argv.index(flag) + 2] if flag in argv else []
        (data,) = parse([DataArguments], argv=["--config", str(beside), "--study_dir", study.study_dir, *model])
        prepare(data)


def decisive(settings: Json, rows: int) -> Json:
    """The settings that the result depends on, with the `rows` of a step over all processes."""
    best = settings.get("load_best_model_at_end")
    left_out = (*IRRELEVANT, *OF_A_STEP, *(() if best else SAVES))
    return {key: value for key, value in settings.items() if key not in left_out} | {"rows of a step": rows}


def open_arm(study: StudyArguments, settings: Json, rows: int, is_main: bool) -> ArmFolder:
    """Find out whether this arm is done, and lock its folder for this run if it is not.

    `rows`: of a step, over all processes. The folder is this run's once it is stamped: see `stamp`. Raises UserError
    where the folder holds another run, or another process is training in it.
    """
    folder = Path(study.study_dir) / study.arm
    data = read_json(Path(study.study_dir) / "data" / "data_report.json")
    digest = fingerprint(decisive(settings, rows), data["fingerprint"], versions())
    record = folder / "train.json"
    if record.exists() and read_json(record)["fingerprint"] == digest:
        return ArmFolder(folder, digest, settings, done=True)
    standing = folder / STAMP
    if standing.exists() and standing.read_text(encoding="utf-8").strip() != digest:
        raise UserError(
            f"{folder} holds a run with other {_difference(folder, settings)}; "
            f"choose another --arm, or delete the folder"
        )
    if not is_main:
        return ArmFolder(folder, digest, settings, done=False)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")  # the kernel releases it when the process ends, however it ends
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"{folder}: another run is training in it now; wait for it, or choose another --arm") from error
    return ArmFolder(folder, digest, settings, done=False, lock=lock)


def stamp(arm: ArmFolder) -> None:
    """Make the folder this run's. To be done by the first process once all checks have passed: a refused run leaves no
    stamp, and what its message tells to change is no other run.
    """
    if arm.lock is not None and not (arm.folder / STAMP).exists():
        write_text(arm.folder / "config.yaml", yaml.safe_dump(arm.settings, sort_keys=False))
        write_text(arm.folder / STAMP, arm.fingerprint + "\n")


def _difference(folder: Path, settings: Json) -> str:
    """Which settings differ from those of the folder's run; if none does, the data or the package versions do."""
    try:
        before = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError):
        return "settings, data or package versions"
    first, second = decisive(before, 0), decisive(settings, 0)
    differ = [key for key in {**first, **second} if first.get(key) != second.get(key)]
    differ += [] if differ else [key for key in OF_A_STEP if before.get(key) != settings.get(key)]
    return f"settings ({', '.join(sorted(differ))})" if differ else "data, package versions or number of processes"
