"""The memory plan: which fine-tuning strategy fits which machine, before anything is loaded.

    python recipes/plan_memory.py                                             # the embedded model on this machine
    python recipes/plan_memory.py --model_name_or_path mistralai/Mistral-7B-Instruct-v0.2 \\
        --gpu a100-80gb --gpus 1 --host 167GB --disk 2TB                      # a machine you think of renting
    python recipes/plan_memory.py --config recipes/configs/mistral_7b/lora.yaml --gpu l4   # one recipe as it stands
    python recipes/plan_memory.py --gpu none --host 24GB                      # a laptop
    python recipes/plan_memory.py --as-published                              # beside the source study's Table 4
    python recipes/plan_memory.py --calibrate runs/demo/lora/train.json       # learn from a short run on this machine
    python recipes/plan_memory.py --calibrate runs/gpu_check/gpu_check.json   # or from make gpu-check

Each training step is traced on fake tensors (some fifty seconds for 7B on two cores; kept for the next time).
Writes plan.json and plan.png into --output_dir (default: --study_dir) and names the accelerate config to use.
Exit status 3 where nothing fits, or the recipe does not, with what would.
"""

import os
from dataclasses import asdict
from pathlib import Path

from medsft import __version__
from medsft.arguments import PlanArguments
from medsft.cli import run
from medsft.config import CONFIGS, command_line, config_path, is_on, parse, peek
from medsft.errors import DoesNotFit, UserError
from medsft.files import fingerprint, read_json, write_json
from medsft.hardware.specs import Hardware, described, machine
from medsft.memory import lower_bound
from medsft.memory.plan_records import Plan
from medsft.memory.recipe import Recipe, read_recipe
from medsft.memory.strategies import applies
from medsft.records import TrainRecord
from medsft.reporting.plan.plan_table import show, show_published, summary

ROWS_PER_STEP = 16  # of the recipes, where the plan reads none


def main() -> None:
    argv = command_line()
    if is_on("check_only", argv) and all(peek(name, None, argv) is None for name in ("gpu", "gpus", "host", "disk")):
        lower_bound.check(argv, machine("."))  # before anything large is imported
    os.environ["OMP_NUM_THREADS"] = "1"  # nothing is computed; idle threads would wait for work at full speed
    args, recipe = read()
    if page := args.ladder_table or args.cluster_tables:
        from medsft.reporting.plan import docs_cluster_tables, docs_plan_table

        tables = docs_plan_table if args.ladder_table else docs_cluster_tables
        print(f"{'written' if tables.update(Path(page), machine('.')) else 'already up to date'}: {page}")
        return
    folder = Path(args.output_dir or args.study_dir)
    gpu = "none" if recipe and recipe.on_cpu and args.gpu is None else args.gpu
    hardware = described(machine(folder), gpu, args.gpus, args.host, args.disk, args.nodes)
    if args.calibrate:
        calibrate(Path(args.calibrate), hardware)
        return
    plan = make_plan(args, hardware, recipe)
    own = next((row for row in plan["strategies"] if recipe and row["name"] == recipe.strategy), None)
    if not args.check_only:
        show(plan, hardware, recipes_folder(), args.details)
        if args.as_published:
            show_published()
        save(plan, folder / "plan.json", hardware)
    if own and not own["fits"]:
        fitting = [row["name"] for row in plan["strategies"] if row["fits"]]
        what = f"what fits: {', '.join(fitting)}" if fitting else plan["recommended_reason"]
        raise DoesNotFit(f"{plan['recipe']} ({own['name']}) on {summary(hardware)}: {own['reason']}; {what}")
    if own and not args.check_only:
        print(f"{plan['recipe']} ({own['name']}) fits {summary(hardware)}: {own['reason']}")
    elif plan["recommended"] is None:
        raise DoesNotFit(f"no strategy fits {summary(hardware)}; {plan['recommended_reason']}")


def read() -> tuple[PlanArguments, Recipe | None]:
    """The options, from flags, a plan.yaml or a training recipe. Raises UserError for numbers that no run can have."""
    argv = command_line()
    recipe = read_recipe(argv)
    if recipe:  # flags win over what the recipe says
        at = argv.index("--config")
        del argv[at : at + 2]
        given = {name: value for name, value in recipe.options.items() if value is not None}  # else the plan's default
        if recipe.options.get("max_length", 0) is None and peek("max_length", None, argv) is None:
            raise UserError(f"{recipe.path}: max_length: null cuts no row; give the plan the longest: --max_length 999")
        argv = [word for name, value in given.items() for word in (f"--{name}", str(value))] + argv
    (args,) = parse([PlanArguments], argv=argv)
    for name in ("per_device_train_batch_size", "max_length", "lora_r"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name} {getattr(args, name)}: must be 1 or more")
    if args.check_only and not recipe:
        raise UserError("--check_only true needs a training recipe: --config recipes/configs/FOLDER/lora.yaml")
    return args, recipe


def recipes_folder() -> Path:
    """The folder of the YAML that --config names, whose recipes the plan points to; without one, Mistral-7B's."""
    argv = command_line()
    return config_path(argv).parent if "--config" in argv else Path(os.path.relpath(CONFIGS / "mistral_7b"))


def make_plan(args: PlanArguments, hardware: Hardware, recipe: Recipe | None = None) -> Plan:
    """The content of plan.json; `recommended` is None where nothing fits."""
    from medsft.hardware import matmul_benchmark
    from medsft.memory import calibration, choices, planner
    from medsft.memory.step_config import IN_FLOAT32, StepSettings, shared
    from medsft.models.loading import load_config
    from medsft.models.parameter_counts import count_lora, count_parameters, known_config

    name, batch, length = args.model_name_or_path, args.per_device_train_batch_size, args.max_length
    config = known_config(name) or load_config(name)
    own_step = recipe.step if recipe else StepSettings(accumulates=True)  # as the recipes do
    step: StepSettings = {"checkpointing": True, **own_step, "lora_r": args.lora_r}
    if not hardware.gpus and (not recipe or not recipe.names_attention):
        step["attention"] = "eager"  # what `training.auto_options` chooses on a processor
    if not (hardware.gpus or args.host) and not matmul_benchmark.prefers_bfloat16():  # it chooses this too
        step |= IN_FLOAT32
    own = recipe.strategy if recipe else None
    if recipe and not applies(recipe.strategy, hardware.gpus, hardware.nodes):
        more = "several GPUs" if hardware.ranks == 1 else "one GPU (--gpus 1)"
        missing = more if hardware.gpus else "an NVIDIA GPU"
        raise DoesNotFit(f"{recipe.path} ({own}) needs {missing}; what fits {summary(hardware)}: make plan")
    strategies = planner.strategies(config, hardware, batch, length, own=own, only_own=args.check_only, **step)
    recommended, reason = planner.recommend(strategies, hardware)
    share = max(batch, (recipe.rows_per_step if recipe else ROWS_PER_STEP) // max(1, hardware.ranks))
    chosen = choices.lines(recommended, config, hardware, batch, share, length, **shared(step)) if recommended else []
    parameters, adapters = count_parameters(config), count_lora(config, args.lora_r)
    inputs = {"batch": batch, "length": length, **step}
    # Memory in use and free bytes of the disk change by the minute; the plan changes with whole gigabytes of disk.
    steady = {k: v for k, v in asdict(hardware).items() if "available" not in k and k != "disk_bytes"}
    added = [asdict(calibration.of_machine(hardware, batch, trains_all)) for trains_all in (False, True)]
    digest = fingerprint(__version__, config.to_dict(), inputs, own, added, steady, hardware.disk_bytes // 10**9)
    return {
        "model": {
            "name": name,
            "parameters": parameters,
            "lora_parameters": adapters,
            "lora_percent": round(100 * adapters / parameters, 4),
        },
        "recipe": str(recipe.path) if recipe else None,
        "inputs": inputs,
        "hardware": asdict(hardware),
        "strategies": strategies,
        "recommended": recommended,
        "recommended_reason": reason,
        "choices": chosen,
        "fingerprint": digest,
    }


def calibrate(file: Path, hardware: Hardware) -> None:
    """Keep this machine's corrections, from a run's train.json or from all runs of `make gpu-check`."""
    from medsft.memory.calibration import from_record

    if not file.is_file():
        raise UserError(f"{file}: no such file; a short run writes it: sft_lora.py ... --max_steps 5 --arm short")
    where = hardware.gpu if hardware.gpus else "this machine without a GPU"
    for name, record in records_of(file):
        try:
            found = from_record(record, hardware)
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
        print(
            f"kept for {where}: context {found.context_bytes / 1e9:.2f} GB, slack {found.slack:.1%} of what is traced, "
            f"process {found.process_bytes / 1e9:.2f} GB of host memory ({name}); plans made from now on use them"
        )


def records_of(file: Path) -> list[tuple[str, TrainRecord]]:
    """(file, record) of the runs to learn from. Of `make gpu-check` those that passed in one process without offload,
    the tightest last: what is kept of a kind of training is the last one's.
    """
    from medsft.memory.calibration import why_not

    read = read_json(file)
    if "rows" not in read:
        return [(str(file), read)]
    names = [row["train_json"] for row in read["rows"] if row["status"] == "pass" and row.get("train_json")]
    found: list[tuple[str, TrainRecord]] = [(name, read_json(Path(name))) for name in names]
    usable = [
        (name, record)
        for name, record in found
        if not why_not(record, on_gpu=read["device"] == "cuda")
        and "paged" not in str(record["settings"].get("optim"))  # on a processor too
        and record["settings"].get("save_strategy") == "no"
    ]
    if not usable:
        raise UserError(f"{file}: no run in it to learn from passed; run: make gpu-check")
    return sorted(usable, key=lambda one: _over_traced(one[1]))


def _over_traced(record: TrainRecord) -> float:
    """Measured over traced bytes of a run: on the device, else on the host."""
    measured = record["peak_memory"]
    return (measured.get("reserved_bytes") or measured["host_bytes"]) / record["predicted_memory"]["traced_bytes"]


def save(plan: Plan, path: Path, hardware: Hardware) -> None:
    """Write plan.json, and plan.png beside it, unless the one that is there has the same inputs."""
    if path.is_file() and read_json(path).get("fingerprint") == plan["fingerprint"]:
        print(f"already done: {path}")
        return
    from medsft.reporting.figures import draw_plan

    path.parent.mkdir(parents=True, exist_ok=True)
    draw_plan(plan["strategies"], hardware, path.with_suffix(".png"))
    write_json(path, plan)
    print(f"written: {path} and {path.with_suffix('.png').name}")


if __name__ == "__main__":
    run(main, __doc__, PlanArguments)
