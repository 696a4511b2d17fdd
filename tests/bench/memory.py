"""Accuracy of the memory plan: three tables, each prediction beside what was measured.

    python tests/bench/memory.py --output runs/bench/memory.json [--points gpu_memory_points.jsonl] [--nvme]

1. Traced peaks against torch's CPU allocator, eleven small runs. 2. Traced peaks against published measurements on a
GPU (PEFT's method comparison; skipped without the file). 3. DeepSpeed's engine, dry run against resident memory on this
processor. Ten minutes on two cores.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "recipes"))

from transformers import AutoConfig, LlamaConfig  # noqa: E402

from medsft.errors import UserError  # noqa: E402
from medsft.files import read_jsonl, write_json  # noqa: E402
from medsft.memory.step_config import StepConfig  # noqa: E402
from medsft.memory.trace.step import highest, trace  # noqa: E402

POINTS = HERE.parents[2] / "shared" / "data" / "gpu_memory_points.jsonl"
RESERVED = 1.02  # reserved over allocated; of these points themselves, so the table shows the error without it too
EXPLAINED = {  # errors over 6 %
    "psoft--llama-3.2-3B-default": "a full SVD at its start: 1.2 GB more, at the peak and on average, than psoft-fast, "
    "which differs in that and the Cayley solver only; solvers' workspaces and blocks kept after them are no tensors",
}
LLAMA = {
    "model_type": "llama", "vocab_size": 2000, "hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 4,
    "num_attention_heads": 8, "num_key_value_heads": 2,
}  # fmt: skip
GPT2 = {"model_type": "gpt2", "vocab_size": 2000, "n_embd": 256, "n_layer": 4, "n_head": 8, "bos_token_id": 0,
        "eos_token_id": 0}  # fmt: skip
STEPS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (LLAMA, {}),
    (LLAMA, {"checkpointing": False, "optimizer": "adamw_torch"}),
    (LLAMA, {"method": "lora"}),
    (LLAMA, {"method": "lora", "checkpointing": False, "lora_dropout": 0.1}),
    (LLAMA, {"method": "qlora"}),
    (LLAMA, {"dtype": "float32", "optimizer": "adafactor"}),
    (LLAMA, {"optimizer": "sgd", "packing": True, "checkpointing": False}),
    (LLAMA, {"attention": "eager", "checkpointing": False}),
    (GPT2, {}),
    (GPT2, {"checkpointing": False, "optimizer": "adamw_torch", "dtype": "float32", "autocast": False}),
    (GPT2, {"method": "lora", "optimizer": "adamw_torch"}),
]
MEASURED_ON = LlamaConfig(  # as the data's note says: Llama-3.2-3B
    vocab_size=128256, hidden_size=3072, intermediate_size=8192, num_hidden_layers=28, num_attention_heads=24,
    num_key_value_heads=8, head_dim=128, tie_word_embeddings=True, max_position_embeddings=131072,
)  # fmt: skip
ENGINE = {
    "stage": 3, "device": "cpu", "zero": {}, "ranks": 1, "optimizer": "cpu", "parameters": "cpu", "bf16_states": False,
    "batch": 2, "length": 128, "checkpointing": True, "layers": 12, "on_gpu": False,
}  # fmt: skip
ENGINE_MODEL = {"model_type": "llama", "vocab_size": 8000, "hidden_size": 768, "intermediate_size": 2048,
                "num_hidden_layers": 12, "num_attention_heads": 12}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="runs/bench/memory.json")
    parser.add_argument("--points", default=str(POINTS))
    parser.add_argument("--nvme", action="store_true", help="also with optimizer states on disk (needs libaio)")
    args = parser.parse_args()
    started = time.monotonic()
    result = results(Path(args.points), args.nvme) | {"seconds": round(time.monotonic() - started)}
    Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    write_json(Path(args.output), result)


def results(points: Path = POINTS, nvme: bool = False) -> dict[str, Any]:
    """The three tables as plain values: {allocator, published, engine}."""
    optimizers = ["cpu", "nvme"] if nvme else ["cpu"]
    return {
        "allocator": against_allocator(),
        "published": against_published(points),
        "engine": against_resident(optimizers),
    }


def against_allocator(steps: list[tuple[dict[str, Any], dict[str, Any]]] = STEPS) -> list[dict[str, Any]]:
    """Traced and real peaks of small steps; the real ones by the events of torch's own allocator."""
    rows = []
    for shape, changes in steps:
        step = {"batch": 4, "length": 128, "on_gpu": False, **changes}
        real = _measure("measured_step.py", json.dumps(shape), json.dumps(step))["allocated"]
        rows.append(_row(f"{shape['model_type']} {changes or 'defaults'}", _traced(shape, step), real))
    return _table("traced peak against torch's CPU allocator", rows)


def against_published(points: Path) -> dict[str, Any]:
    """Traced peaks against reserved memory on an L40S, batch 4 x 768; one value a method, all methods that trace."""
    if not points.is_file():
        print(f"published points: left out, no {points}")
        return {}
    rows, left_out = [], {}
    for point in read_jsonl(points):
        try:
            rows.append(_row(point["name"], traced_point(point), point["max_memory_reserved_bytes"]))
        except UserError as error:
            left_out[point["name"]] = str(error)
    _table("traced peak (allocated) against published peak (reserved), L40S", rows)
    errors = {
        kind: sorted(abs(factor * row["predicted"] / row["measured"] - 1) for row in rows)
        for kind, factor in (("as_traced", 1.0), ("with_slack", RESERVED))
    }
    summary = {
        kind: {
            "n": len(e),
            "mean": sum(e) / len(e),
            "within_4_percent": sum(x <= 0.04 for x in e) / len(e),
            "worst": e[-1],
        }
        for kind, e in errors.items()
    }
    for kind, s in summary.items():
        print(
            f"{kind}: n {s['n']}, mean {s['mean']:.2%}, within 4 %: {s['within_4_percent']:.0%}, worst {s['worst']:.1%}"
        )
    for row in rows:
        if abs(row["error"]) > 0.06:
            print(f"over 6 %: {row['name']}: {EXPLAINED.get(row['name'], 'not explained')}")
    for name, reason in left_out.items():
        print(f"left out: {name}: {reason}")
    return {"rows": rows, "summary": summary, "left_out": left_out, "explained": EXPLAINED}


def traced_point(point: dict[str, Any]) -> int:
    """Traced peak bytes of one published run. Raises UserError where the method cannot be traced."""
    import peft

    values, train = dict(point["peft_config"] or {}), point["train_config"]
    step = StepConfig(
        method="lora" if values else "full", batch=train["batch_size"], length=train["max_seq_length"],
        optimizer="adamw_torch", checkpointing=False, autocast=train["use_amp"], padded=False, own_loss=True,
    )  # fmt: skip
    if not values:
        return sum(highest(trace(MEASURED_ON, step, True))[1].values())
    kind: Any = peft.PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(values.pop("peft_type"))]
    known = {field.name for field in dataclasses.fields(kind)}
    adapter = kind(**{k: v for k, v in values.items() if k in known} | {"task_type": "CAUSAL_LM"})
    uniform = "adapter_layers" not in values  # such an adapter counts the model's layers itself
    return sum(highest(trace(MEASURED_ON, step, uniform, adapter))[1].values())


def against_resident(optimizers: list[str]) -> list[dict[str, Any]]:
    """DeepSpeed ZeRO-3 offload of a 97 M model: the dry run and the process before it, against resident memory."""
    from medsft.hardware.specs import described, machine
    from medsft.memory.peaks import bytes_of_strategies
    from medsft.memory.strategies import STRATEGIES
    from medsft.models.parameter_counts import sizes_of

    config, rows = AutoConfig.for_model(**ENGINE_MODEL), []
    here = described(machine("."), "none")
    for optimizer in optimizers:
        name = "full_nvme" if optimizer == "nvme" else "full_zero3_offload"
        found = bytes_of_strategies({name: STRATEGIES[name]}, config, sizes_of(config), here, 2, 128, {}, False)
        device, host, _ = found[name]
        with tempfile.TemporaryDirectory() as folder:
            real = _measure(
                "measured_zero.py", json.dumps({"config": ENGINE_MODEL, **ENGINE, "optimizer": optimizer}), folder
            )
        total = sum(device.values()) + sum(v for k, v in host.items() if k not in ("pinned", "pinned_rounding", "save"))
        rows.append(
            _row(f"ZeRO-3, parameters on cpu, optimizer on {optimizer}", real["before"] + total, real["resident"])
        )
    return _table("engine's dry run and the process against resident memory", rows)


def _traced(shape: dict[str, Any], step: dict[str, Any]) -> int:
    values = dict(shape)
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    return sum(highest(trace(config, StepConfig(**step), uniform=True))[1].values())


def _measure(script: str, *arguments: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, str(HERE / script), *arguments], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{script} failed: {done.stderr[-800:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _row(name: str, predicted: int, measured: int) -> dict[str, Any]:
    return {"name": name, "predicted": predicted, "measured": measured, "error": predicted / measured - 1}


def _table(title: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    print(title)
    for row in rows:
        sizes = f"{row['predicted'] / 1e6:10.1f} MB {row['measured'] / 1e6:10.1f} MB"
        print(f"  {row['name'][:76]:76} {sizes} {row['error']:+8.2%}", flush=True)
    return rows


if __name__ == "__main__":
    main()
