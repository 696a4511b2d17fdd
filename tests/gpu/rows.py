"""The rows of the check by worth: what the first minute of a rented GPU should show comes first."""

import json
import shutil
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from gpu.check import CONFIGS, ROOT, Check, NotMeasuredError, Row, RowFailedError
from gpu.sizing import CONTEXT, HELD, bytes_held
from medsft.config import nearest, read_config
from medsft.errors import UserError
from medsft.files import read_json
from medsft.memory.strategies import STRATEGIES, applies

DEVICE = Path(__file__).with_name("device.py")
CLOSE = 0.02  # nats between runs on a GPU, whose backward kernels add in any order; on a processor they are equal


class Entry(NamedTuple):
    """`seconds`: about what it takes on a GPU. `measure` raises RowFailedError or NotMeasuredError."""

    name: str
    seconds: float
    measure: Callable[[Check], Row]
    needs: tuple[str, ...] = ("weights", "data")


def entries(on_cpu: bool, wanted: list[str] | None = None) -> list[Entry]:
    """All rows, or the `wanted` ones with what they need. Raises UserError for an unknown name."""
    recipes = {path.stem: str(read_config(["--config", str(path)])["strategy"]) for path in CONFIGS.glob("full*.yaml")}
    fulls = [n for n, s in sorted(recipes.items()) if not STRATEGIES[s].engine and applies(s, 0 if on_cpu else 1)]
    fulls.sort(key=lambda recipe: recipe != "full_8bit")  # the default of sft_full.py first
    found = [
        Entry("matrix_peak", 15, matrix_peak, ()),
        Entry("weights", 45, weights, ()),
        Entry("data", 20, data, ("weights",)),
        Entry("lora", 60, partial(adapters, "lora")),
        *[Entry(recipe, 70, partial(full, recipe)) for recipe in fulls[:1]],
        Entry("operators", 100, operators, ()),
        Entry("zero3_offload", 70, zero3_offload, ("weights", "data", "operators")),
        Entry("stop_and_resume", 75, stop_and_resume),
        Entry("qlora", 60, partial(adapters, "qlora")),
        Entry("fsdp2_offload", 60, fsdp2_offload),
        Entry("generation", 50, partial(generation, "transformers")),
        Entry("lora_recomputed", 60, partial(adapters, "lora", auto_speed="false")),
        Entry("processor_against_gpu", 60, processor_against_gpu),
        *[Entry(recipe, 70, partial(full, recipe)) for recipe in fulls[1:]],
        Entry("generation_vllm", 100, partial(generation, "vllm")),
    ]
    known = {entry.name: entry for entry in found}
    if unknown := set(wanted or []) - known.keys():
        raise UserError(f"no row '{min(unknown)}': {nearest(min(unknown), known)}")
    needed = {"matrix_peak", *(n for name in wanted or known for n in (name, *known[name].needs))}
    return [entry for entry in found if entry.name in needed]


def matrix_peak(check: Check) -> Row:
    check.run([sys.executable, DEVICE, "peak", "cpu" if check.on_cpu else "cuda"], "peak")
    lines = (check.folder / "logs" / "peak.log").read_text(encoding="utf-8").splitlines()
    found: Row = json.loads([line for line in lines if line.startswith("{")][-1])
    return found


def weights(check: Check) -> Row:
    """As many layers as the largest row needs and the disk has room for; smaller models link to them."""
    for name in ("weights", "models"):
        shutil.rmtree(check.folder / name, ignore_errors=True)
    room = int((0.8 * check.hardware.disk_bytes / 2 - check.shape.outside) / check.shape.layer)
    layers = min(room, max(check.layers(held) for held in HELD.values()))
    if layers < 1:
        raise NotMeasuredError("the disk has no room for the weights of one layer")
    words = [sys.executable, DEVICE, "weights", check.folder / "weights", layers]
    check.run([*words, "cpu" if check.on_cpu else "cuda", check.tokenizer], "weights")
    return {"layers": layers, "parameters": check.shape.parameters(layers)}


def data(check: Check) -> Row:
    """The embedded sample, by the shipped script."""
    shutil.rmtree(check.study / "data", ignore_errors=True)
    words: list[Any] = [sys.executable, ROOT / "recipes" / "prepare_data.py", "--study_dir", check.study]
    words += ["--model_name_or_path", check.model(1), "--max_length", 512 if check.on_cpu else 1024]
    check.run([*words, "--max_rows", 120 if check.on_cpu else 400], "data")
    report = read_json(check.study / "data" / "data_report.json")
    return {"rows": report["rows_kept"], "longest": report["tokens"]["train"]["max"]}


def adapters(kind: str, check: Check, **more: str) -> Row:
    """LoRA or QLoRA as shipped, or with its own micro-batch and checkpointing instead of those chosen for speed."""
    if kind == "qlora":
        needs("bitsandbytes")
    layers = check.layers(HELD[kind])
    _, record = check.train(f"{kind}_recomputed" if more else kind, kind, layers, **more)
    if kind == "qlora" and record["quantization"] != "nf4":
        raise RowFailedError(f"the base is not in NF4: {record['quantization']}")
    return check.measured(record, layers)


def full(recipe: str, check: Check) -> Row:
    options = read_config(["--config", str(CONFIGS / f"{recipe}.yaml")])
    if "bit" in str(options["optim"]):
        needs("torchao" if "torch" in options["optim"] else "bitsandbytes")
    if options.get("flash_adamw"):
        needs("flashoptim")
    layers = check.layers(bytes_held(STRATEGIES[options["strategy"]].states, options["dtype"]))
    return check.measured(check.train(recipe, recipe, layers)[1], layers, trains_all=True)


def operators(check: Check) -> Row:
    needs("deepspeed")
    check.run([sys.executable, "-m", "medsft.distributed.deepspeed_ops"], "operators")
    return {}


def zero3_offload(check: Check) -> Row:
    layers = check.few_layers(offloads=True)
    _, record = check.train("zero3_offload", "full_offload", layers, launch="zero3_offload.yaml")
    return check.measured(record, layers, trains_all=True, wrapped="ZeRO-3")


def fsdp2_offload(check: Check) -> Row:
    if check.on_cpu:
        raise NotMeasuredError("accelerate shards by FSDP2 on GPUs only: here the same launch would be plain training")
    layers = check.few_layers(offloads=True)
    _, record = check.train("fsdp2_offload", "full_fsdp2_offload", layers, launch="fsdp2_offload.yaml")
    return check.measured(record, layers, trains_all=True, wrapped="FSDP2")


def stop_and_resume(check: Check) -> Row:
    """LoRA of a small model: once whole, once stopped by SIGTERM after its first checkpoint and started again."""
    layers = check.few_layers(offloads=False)
    flags = {"max_steps": 8, "save_strategy": "steps", "save_steps": 1, "save_total_limit": 2}
    _, whole = check.train("whole", "lora", layers, **flags)
    first = check.study / "stopped" / "checkpoint-1" / "manifest.json"
    if check.train("stopped", "lora", layers, stop_at=first, **flags)[1]:
        raise RowFailedError("it ended before it could be stopped")
    _, again = check.train("stopped", "lora", layers, afresh=False, **flags)
    if "continuing from" not in (check.folder / "logs" / "stopped.log").read_text(encoding="utf-8"):
        raise RowFailedError("the second start did not continue from a checkpoint")
    row = check.measured(whole, layers)
    return row | agree(row["losses"], [entry["loss"] for entry in again["history"] if "loss" in entry], check)


def processor_against_gpu(check: Check) -> Row:
    """The same weights and rows in float32: the dev loss before the first step, and the first step's loss."""
    flags = {
        "dtype": "float32",
        "bf16": "false",
        "lora_dropout": 0,
        "max_steps": 2,
        "max_train_rows": 4,
        "eval_steps": 2,
    }
    flags |= {"per_device_train_batch_size": 4, "rows_per_step": 4, "max_train_rows": 4}
    _, one = check.train("on_processor", "lora", 1, **flags, use_cpu="true", dataloader_pin_memory="false")
    _, two = check.train("on_device", "lora", 1, **flags)
    row = check.measured(two, 1) | {"train_json": None}  # one layer: no run to learn the slack from
    row |= {"note": "the processor against itself: there is no GPU"} if check.on_cpu else {}
    return row | agree(*([e.get("eval_loss", e.get("loss")) for e in r["history"][:2]] for r in (one, two)), check)


def agree(one: list[float], two: list[float], check: Check) -> Row:
    """The largest difference of two lists of losses. Raises RowFailedError where it is too large."""
    most = max(abs(a - b) for a, b in zip(one, two, strict=True))
    if not most <= (0 if check.on_cpu else CLOSE):
        raise RowFailedError(f"losses differ by up to {most:.4g}: {one} and {two}")
    return {"losses_differ_by": most}


def generation(engine: str, check: Check) -> Row:
    if engine == "vllm":
        needs("vllm")
    layers, arm = check.layers(HELD["lora"]), f"baseline_{engine}"
    rows, new, length = (4, 8, 512) if check.on_cpu else (32, 64, 1024)
    shutil.rmtree(check.study / arm, ignore_errors=True)
    words: list[Any] = [sys.executable, ROOT / "recipes" / "generate.py", "--config", CONFIGS / "generate.yaml"]
    words += ["--study_dir", check.study, "--arm", arm, "--model_name_or_path", check.model(layers), "--engine", engine]
    words += ["--max_rows", rows, "--max_new_tokens", new, "--batch_size", rows, "--likelihood_rows", rows]
    done = check.run([*words, "--memorization_rows", 0], arm)
    found, config = (
        read_json(path) for path in (check.study / arm / "generation.json", check.model(layers) / "config.json")
    )
    cache = 4 * layers * config["num_key_value_heads"] * config["head_dim"] * rows * (length + new)
    held = 2 * check.shape.parameters(layers) + cache  # bf16 weights, keys and values
    return {
        "layers": layers,
        "parameters": check.shape.parameters(layers),
        **{name: found[name] for name in ("engine", "precision", "tokens_per_second")},
        "predicted": {"device_bytes": 0 if check.on_cpu else held + CONTEXT, "host_bytes": held if check.on_cpu else 0},
        "measured": {"device_bytes": done.device, "host_bytes": done.host},
    }


def needs(package: str) -> None:
    """Raise NotMeasuredError where a package is not installed."""
    if find_spec(package) is None:
        raise NotMeasuredError(f"{package} is not installed")
