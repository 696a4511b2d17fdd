"""Short runs of a recipe at several learning rates, and which of them has the lowest dev loss.

Successive halving with two rungs (Jamieson and Talwalkar 2016, https://arxiv.org/abs/1502.07943): every rate for some
steps, the two best for more of them.
"""

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TypedDict, cast

from medsft.arguments import StudyArguments, SweepArguments
from medsft.config import is_on, peek, read_config
from medsft.errors import UserError
from medsft.files import read_json
from medsft.hardware.specs import Hardware, machine
from medsft.memory import launch_command
from medsft.memory.strategies import STRATEGIES, recipe_of
from medsft.records import Json
from medsft.text import method_of
from medsft.training.tuning import forked_run

SCRIPTS = Path(__file__).resolve().parents[3]
FINALISTS = 2
USER_ERROR, DOES_NOT_FIT, INTERRUPTED = 2, 3, 130


class Trial(TypedDict):
    """A short run at one learning rate. `failed` says why there are no losses."""

    learning_rate: float
    steps: int
    start: float | None  # dev loss before the first step
    lowest: float | None
    step: int | None  # of the lowest
    dev_losses: list[list[float]]  # [step, loss]
    failed: str | None


class Choice(TypedDict):
    """The trials of an arm and the rate of the lowest dev loss. `note`: why the best rate may be another one.

    `seconds`: what all of its trials took, 0 for those that were done before.
    """

    chosen: float | None
    runs: list[Trial]
    note: str
    seconds: float


def recipes(folder: Path, arms: list[str], study: Path) -> list[Path]:
    """The recipes in a folder of configurations: those named, or LoRA's, QLoRA's and that of the full fine-tuning which
    `make fft` would train in this study on this machine."""
    found = [folder / f"{name}.yaml" for name in arms or ("lora", "qlora")]
    if not arms:
        found = [path for path in found if path.exists()]
        with suppress(UserError):  # a folder without full fine-tuning
            name, _ = launch_command.choose(folder, study, machine(study))
            found += [path for path in [recipe_of(folder, name)] if path]
    missing = [path for path in found if not path.exists()]
    if missing or not found:
        there = ", ".join(sorted(path.stem for path in folder.glob("*.yaml"))) or "nothing"
        raise UserError(f"{missing[0] if missing else folder}: no such recipe; in {folder} there is {there}")
    return found


def arm_of(recipe: Path) -> str:
    """The name of the arm that a recipe trains."""
    return str(read_config(["--config", str(recipe)]).get("arm", recipe.stem))


def rates(recipe: Path, factors: list[float]) -> list[float]:
    """The recipe's own learning rate times each factor, in ascending order, to two digits."""
    own = read_config(["--config", str(recipe)]).get("learning_rate")
    if own is None:
        raise UserError(f"{recipe}: no learning_rate in it to vary; add one")
    return sorted({float(f"{float(own) * factor:.2g}") for factor in factors})


def share_split(study: Path) -> None:
    """Copy the study's split for the sweep. Raises UserError where it is not prepared."""
    data, shared = study / "data", study / "sweep" / "data"
    report = read_json(data / "data_report.json")
    if shared.is_dir() and read_json(shared / "data_report.json")["fingerprint"] == report["fingerprint"]:
        return
    shutil.rmtree(shared, ignore_errors=True)
    shutil.copytree(data, shared)


def sweep(recipe: Path, folder: Path, arguments: SweepArguments) -> list[Trial]:
    """The trials of one recipe in `folder`, by rate: every rate for `first_steps`, the best two for all `steps`.

    Raises UserError where something else than a rate stops a run, and KeyboardInterrupt where a signal did.
    """
    first = min(arguments.first_steps or arguments.steps, arguments.steps)
    runs: list[Trial] = []

    def add(rate: float, steps: int) -> None:
        start = next((tried["start"] for tried in runs if tried["start"] is not None), None)
        runs.append(try_rate(recipe, folder, rate, steps, start, arguments))
        runs.sort(key=lambda tried: tried["learning_rate"])

    for rate in rates(recipe, arguments.factors):
        add(rate, first)
    for _ in range(arguments.widenings):
        if (further := beyond(runs)) is not None:
            add(further, first)
    if first < arguments.steps:
        finished = sorted((tried for tried in runs if tried["failed"] is None), key=_loss)
        for tried in finished[:FINALISTS]:
            add(tried["learning_rate"], arguments.steps)
    return runs


def try_rate(
    recipe: Path, folder: Path, rate: float, steps: int, start: float | None, arguments: SweepArguments
) -> Trial:
    """Train `recipe` at `rate` for a few steps, unless that is done, and return its dev losses.

    `start`: the dev loss before the first step, where an earlier trial measured it: it is the same at every rate. A
    loss that diverged or a run that does not fit is a failed trial.
    """
    settings = read_config(["--config", str(recipe)])
    every = max(1, steps // arguments.evaluations)
    arm = f"{arm_of(recipe)}_{rate:g}_{steps}_steps"
    wanted: dict[str, object] = {"study_dir": folder, "arm": arm, "learning_rate": rate, "max_steps": steps}
    wanted |= {"eval_strategy": "steps", "eval_steps": every, "eval_on_start": str(start is None).lower()}
    # a trial lasts minutes, and writing weights would be some of them
    wanted |= {"save_strategy": "no", "keep_model": "false", "load_best_model_at_end": "false", "seed": arguments.seed}
    wanted |= {"early_stopping_patience": 0, "choose_by": "", "generate_rows": 0}  # they need weights that were saved
    if arguments.max_dev_rows is not None:
        wanted["max_dev_rows"] = arguments.max_dev_rows
    flags = [word for name, value in wanted.items() for word in (f"--{name}", str(value))]
    script = SCRIPTS / ("sft_lora.py" if settings.get("use_peft") else "sft_full.py")
    print(f"{arm_of(recipe)} at {rate:g}: {steps} steps", flush=True)
    status, errors = _run(script, ["--config", str(recipe), *flags], settings)
    record = folder / arm / "train.json"
    if status == 0 and record.exists():
        found = losses(rate, steps, start, read_json(record)["history"])
    else:
        found = _failed(rate, steps, arm, status, errors)
    shutil.rmtree(folder / arm / "adapter", ignore_errors=True)  # which a LoRA run always saves
    return found


def losses(rate: float, steps: int, start: float | None, history: list[dict[str, float]]) -> Trial:
    """The trial of a run that ended, from train.json's history and the dev loss before its first step."""
    evals = [[int(row["step"]), row["eval_loss"]] for row in history if "eval_loss" in row]
    if start is not None and evals[0][0] != 0:
        evals.insert(0, [0, start])
    step, lowest = min(evals, key=lambda pair: pair[1])
    return {
        "learning_rate": rate,
        "steps": steps,
        "start": evals[0][1] if evals[0][0] == 0 else None,
        "lowest": lowest,
        "step": int(step),
        "dev_losses": evals,
        "failed": None,
    }


def beyond(runs: list[Trial]) -> float | None:
    """The next rate to try where the best of `runs`, in ascending order, is the first or the last; None elsewhere.

    As far from it as its neighbour is: the factors are a grid in the logarithm of the rate.
    """
    finished = [tried for tried in runs if tried["failed"] is None and tried["step"] != 0]
    if len(runs) < 2 or not finished:
        return None
    lowest = min(finished, key=_loss)
    if lowest is not runs[0] and lowest is not runs[-1]:
        return None
    neighbour = runs[1] if lowest is runs[0] else runs[-2]
    return float(f"{lowest['learning_rate'] ** 2 / neighbour['learning_rate']:.2g}")


def best(runs: list[Trial]) -> Trial | None:
    """The trial of the lowest dev loss among the longest ones; None where none ended."""
    finished = [tried for tried in runs if tried["failed"] is None]
    longest = max((tried["steps"] for tried in finished), default=0)
    return min((tried for tried in finished if tried["steps"] == longest), key=_loss, default=None)


def choose(runs: list[Trial], seconds: float = 0.0) -> Choice:
    """The rate of the best trial, with what may be said against it."""
    found = best(runs)
    if found is None:
        note = "no rate could be trained to the end; try lower --factors"
        return {"chosen": None, "runs": runs, "note": note, "seconds": seconds}
    note = ""
    lowest, highest = runs[0]["learning_rate"], runs[-1]["learning_rate"]
    if lowest < highest and found["learning_rate"] in (lowest, highest):
        side = "lowest" if found["learning_rate"] == lowest else "highest"
        note = f"{found['learning_rate']:g} is the {side} rate tried; the best may lie beyond it (--widenings 6)"
    if found["step"] == 0:
        note = "no rate made the dev loss fall; look at the data, or try lower --factors"
    return {"chosen": found["learning_rate"], "runs": runs, "note": note, "seconds": seconds}


def chosen_rate(study: Path, arm: str) -> float | None:
    """The rate that the sweep of this study chose for an arm; None where it was not swept."""
    path = study / "sweep" / "sweep.json"
    rate = read_json(path)["arms"].get(arm, {}).get("chosen") if path.exists() else None
    return None if rate is None else float(rate)


def tuned(argv: list[str]) -> list[str]:
    """The rate that the sweep chose as words to add to the command line, where `--tuned` asks for it and no flag names
    another; it is printed. Repetitions with another seed have the rate of their method.
    """
    if not is_on("tuned", argv) or any(word.partition("=")[0] == "--learning_rate" for word in argv):
        return []
    arm = method_of(str(peek("arm", "lora", argv)))
    rate = chosen_rate(Path(str(peek("study_dir", StudyArguments.study_dir, argv))), arm)
    said = f"not tuned: the study's sweep chose no rate for {arm}, so it has its recipe's (make sweep)"
    if rate is not None:
        said = f"chosen by the sweep: learning_rate {rate:g} (lowest dev loss of {arm}'s short runs)"
    if int(os.environ.get("RANK", "0")) == 0:
        print(said)
    return [] if rate is None else ["--learning_rate", f"{rate:g}"]


def _loss(tried: Trial) -> float:
    return tried["lowest"] or 0.0


def _run(script: Path, flags: list[str], settings: Json) -> tuple[int, str]:
    """(exit status, the end of its stderr); stderr is also shown while it runs."""
    on_cpu = str(settings.get("use_cpu", False)).lower() == "true" or shutil.which("nvidia-smi") is None
    if on_cpu:
        return forked_run.run(script, flags)
    command = [*launched_by(settings, machine(".")), str(script), *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, bufsize=0) as process:
        last = forked_run.show(process.stderr.fileno()) if process.stderr else ""
    return process.returncode, last


def launched_by(settings: Json, here: Hardware) -> list[str]:
    """What starts a trial on GPUs: accelerate, with the file of the recipe's strategy where it has one of its own."""
    if "LOCAL_RANK" in os.environ:
        return [sys.executable]
    config = STRATEGIES[str(settings["strategy"])].config if "strategy" in settings else ""
    return launch_command.words(launch_command.launcher(config, here) if config else "accelerate launch")


def _failed(rate: float, steps: int, arm: str, status: int, errors: str) -> Trial:
    """The trial of a run that failed. Raises where the failure stops the whole sweep."""
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    message = next((line for line in reversed(errors.splitlines()) if line.startswith(("error:", "does not fit:"))), "")
    if "training diverged" in message:
        reason = "diverged"
    elif message.startswith("does not fit:"):
        reason = "does not fit"
    else:
        raise UserError(
            f"{arm} stopped: {message.removeprefix('error: ') or errors.strip()[-300:] or f'status {status}'}"
        )
    print(f"{arm}: {message}", file=sys.stderr)
    nothing: dict[str, None] = dict.fromkeys(("start", "lowest", "step"))
    return cast(Trial, {"learning_rate": rate, "steps": steps, **nothing, "dev_losses": [], "failed": reason})
