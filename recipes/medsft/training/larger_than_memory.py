"""A decoder larger than the machine's memory: its configuration, its random weights, the table of its training."""

from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from medsft.distributed import deepspeed_config
from medsft.errors import DoesNotFit
from medsft.files import new_folder, read_json, write_json, write_text
from medsft.hardware.specs import Hardware
from medsft.records import TrainRecord

if TYPE_CHECKING:
    import torch
    from transformers import MistralConfig, PreTrainedConfig, PreTrainedTokenizerBase

FOOTPRINT = 12  # bytes a parameter in the source study's Table 4: bf16 weights and gradients, float32 AdamW states
SHARD = 10**9  # bytes of weights in memory at a time while they are drawn


class Result(TypedDict):
    """beyond.json: predicted and measured memory, speed, losses."""

    parameters: int
    memory_bytes: int
    study_arithmetic_bytes: int
    times_memory: float
    predicted_host_bytes: int
    peak_host_bytes: int
    steps: int
    tokens_per_step: int
    seconds_per_step: float
    disk_bytes_per_step: dict[str, int]
    losses: list[float]
    wall_seconds: float
    processors: int


def shape(parameters: int, tokenizer: "PreTrainedTokenizerBase") -> "MistralConfig":
    """Mistral's architecture with at least this many parameters, and at most one layer more.

    Depth and width keep the ratio of the 7-billion model; the vocabulary is the tokenizer's.
    """
    from transformers import MistralConfig

    hidden = max(128, 128 * round((parameters / 330) ** 0.5 / 128))
    heads, wide = hidden // 128, 128 * round(hidden * 3.5 / 128)
    shared = next(n for n in range(max(1, heads // 4), 0, -1) if heads % n == 0)
    layer = 2 * hidden * hidden + 2 * hidden * shared * 128 + 3 * hidden * wide + 2 * hidden
    outside = 2 * len(tokenizer) * hidden + hidden
    return MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=wide,
        num_hidden_layers=max(1, -(-(parameters - outside) // layer)),
        num_attention_heads=heads,
        num_key_value_heads=shared,
        head_dim=128,
        sliding_window=None,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def check(parameters: int, here: Hardware) -> None:
    """Raise DoesNotFit where the disk has no room for the weights and the optimizer's states."""
    needed = (2 + deepspeed_config.SWAPPED) * parameters + 2 * 10**9
    if here.disk_bytes < needed:
        raise DoesNotFit(
            f"{parameters / 1e9:.2f} billion parameters need {needed / 1e9:.0f} GB of disk (18 bytes each), "
            f"{here.disk_bytes / 1e9:.0f} GB are free; give --study_dir another disk, or a smaller --times"
        )


def write_random(config: "PreTrainedConfig", tokenizer: "PreTrainedTokenizerBase", folder: Path, seed: int) -> None:
    """Save random bf16 weights as from_pretrained reads them, with at most one shard of them in memory."""
    import torch
    from safetensors.torch import save_file

    from medsft.models.meta import empty_model

    draw = torch.Generator().manual_seed(seed)
    shapes = {name: tensor.shape for name, tensor in empty_model(config, "bfloat16").state_dict().items()}
    config.architectures, config.dtype = ["MistralForCausalLM"], "bfloat16"
    spread = float(config.initializer_range)
    with new_folder(folder) as new:
        index: dict[str, str] = {}
        for number, names in enumerate(shards(shapes)):
            file = f"model-{number:05}.safetensors"
            save_file({n: _drawn(shapes[n], spread, draw) for n in names}, new / file)
            index |= dict.fromkeys(names, file)
        total = 2 * sum(size.numel() for size in shapes.values())
        write_json(new / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": index})
        config.save_pretrained(new)
        tokenizer.save_pretrained(new)


def shards(shapes: "dict[str, torch.Size]") -> list[list[str]]:
    """Names of the tensors of each shard, in order; a shard has at most SHARD bytes in bf16 or a single tensor."""
    found: list[list[str]] = [[]]
    size = 0
    for name, dims in shapes.items():
        if size and size + 2 * dims.numel() > SHARD:
            found, size = [*found, []], 0
        found[-1].append(name)
        size += 2 * dims.numel()
    return found


def summary(arm: Path, here: Hardware, parameters: int) -> Result:
    """The numbers of the table, from the run's train.json and the machine."""
    run: TrainRecord = read_json(arm / "train.json")
    losses = [row["loss"] for row in run["history"] if "loss" in row]
    return {
        "parameters": parameters,
        "memory_bytes": here.host_bytes,
        "study_arithmetic_bytes": FOOTPRINT * parameters,
        "times_memory": round(FOOTPRINT * parameters / here.host_bytes, 3),
        "predicted_host_bytes": run["predicted_memory"]["host_bytes"],
        "peak_host_bytes": run["peak_memory"]["host_bytes"],
        "steps": run["steps"],
        "tokens_per_step": run["tokens_seen"] // run["steps"],
        "seconds_per_step": round(sum(run["step_seconds"]) / run["steps"], 2),
        "disk_bytes_per_step": {k: v // run["steps"] for k, v in run["disk_traffic"].items()},
        "losses": losses,
        "wall_seconds": run["wall_seconds"],
        "processors": here.cpus,
    }


def write_table(result: Result, folder: Path) -> str:
    """Write beyond.json and beyond.md into `folder`; returns the table."""
    gb, traffic = (lambda size: f"{size / 1e9:.1f} GB"), result["disk_bytes_per_step"]
    rows = [
        ("parameters, all of them trained", f"{result['parameters']:,}"),
        ("memory of the machine", gb(result["memory_bytes"])),
        ("the study's arithmetic: 12 bytes a parameter", gb(result["study_arithmetic_bytes"])),
        ("as a multiple of the memory", f"{result['times_memory']:.2f}"),
        ("host memory, predicted", gb(result["predicted_host_bytes"])),
        ("host memory, measured peak (resident)", gb(result["peak_host_bytes"])),
        ("seconds a step, measured", f"{result['seconds_per_step']:.1f}"),
        ("tokens a step", f"{result['tokens_per_step']:,}"),
        ("read from the disk a step", gb(traffic["read_bytes"])),
        ("written to the disk a step", gb(traffic["written_bytes"])),
        ("loss, step by step on one batch", ", ".join(f"{loss:.3f}" for loss in result["losses"])),
    ]
    text = "| | |\n|---|---|\n" + "\n".join(f"| {name} | {value} |" for name, value in rows) + "\n"
    write_json(folder / "beyond.json", result)
    write_text(folder / "beyond.md", text)
    return text


def _drawn(size: "torch.Size", spread: float, draw: "torch.Generator") -> "torch.Tensor":
    import torch

    if len(size) == 1:  # norms
        return torch.ones(size, dtype=torch.bfloat16)
    return torch.empty(size, dtype=torch.bfloat16).normal_(0, spread, generator=draw)
